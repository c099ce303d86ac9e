"""How fast: each a command, which prints a table.

    make bench                              # or .venv-bench/bin/python -m ...
    python -m benchmarks.throughput         training, beside Keras and PyTorch
    python -m benchmarks.time_to_accuracy   seconds to 99 %, over seeds
    python -m benchmarks.startup            from the command to the first step
    python -m benchmarks.memory             the most that a run takes
    python -m benchmarks.scaling            what limits the number of devices

The peers are no part of the project; benchmarks/requirements.txt names them. Measure on
a machine that does nothing else.
"""
