"""How fast, beside Keras on TensorFlow and PyTorch: `make bench`.

The peers are no part of the project; benchmarks/requirements.txt names them.
"""
