"""Benchmarks: commands that print a table each.

    make bench                              # or .venv-bench/bin/python -m ...
    python -m benchmarks.throughput         training, compared with Keras and PyTorch
    python -m benchmarks.time_to_accuracy   seconds to 99 %, over seeds
    python -m benchmarks.startup            from the command to the first step
    python -m benchmarks.memory             peak memory of a run
    python -m benchmarks.scaling            what limits the number of devices

Keras and PyTorch are not dependencies; benchmarks/requirements.txt lists them. Measure
on an idle machine.
"""
