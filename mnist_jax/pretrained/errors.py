"""The error of this package."""

from mnist_jax.errors import UserError


class WeightsError(UserError):
    """A file of weights is missing, damaged, or of another network."""
