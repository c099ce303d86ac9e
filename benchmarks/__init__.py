"""Benchmarks, to be run on an idle machine.

    make bench                              # or .venv-bench/bin/python -m ...
    python -m benchmarks.throughput         training, compared with Keras and PyTorch
    python -m benchmarks.time_to_accuracy   seconds to an accuracy, over seeds

Keras and PyTorch are not dependencies; benchmarks/requirements.txt lists them.
"""
