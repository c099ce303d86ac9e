"""The networks that the laws of every network are tested on."""

from mnist_jax import models
from mnist_jax.models.imagenet import Published

# Without those of twenty million parameters, for which tests/models/test_published.py
# has laws of their own.
SMALL = sorted(
    name for name, module in models.MODELS.items() if not issubclass(module, Published)
)
