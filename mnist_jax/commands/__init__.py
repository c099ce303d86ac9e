"""The commands: a verb a file. `python -m mnist_jax VERB`, or `mnist-jax VERB`."""
