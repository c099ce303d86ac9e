"""Sources of images: `load(config.data)` returns train, val and test images.

Every source gives uint8 images [N, 28, 28, 1] and labels 0..9, in its own order. Each
is imported on first use, so that importing this package costs no more than NumPy.
"""

from collections.abc import Callable

from mnist_jax.config import Data
from mnist_jax.data.dataset import DataError, Dataset, Split, hold_out

__all__ = ["SOURCES", "DataError", "Dataset", "Split", "load"]


def _load_mnist(config: Data) -> tuple[Split, Split]:
    from mnist_jax.data import mnist

    return mnist.load(mnist.data_dir(config.dir), config.mirrors)


def _load_tfds(config: Data) -> tuple[Split, Split]:
    from mnist_jax.data import mnist, tfds

    return tfds.load(mnist.data_dir(config.dir), config.mirrors)


def _load_digits(_: Data) -> tuple[Split, Split]:
    from mnist_jax.data import digits

    return digits.load()


# Each returns (training images, test images).
SOURCES: dict[str, Callable[[Data], tuple[Split, Split]]] = {
    "mnist": _load_mnist,
    "tfds": _load_tfds,
    "digits": _load_digits,
}


def load(config: Data) -> Dataset:
    """Load a data set and hold out its validation images.

    Raises:
        UserError: a file is damaged or cannot be downloaded, or there are too few
            training images for a validation set of this size.
    """
    train_and_val, test = SOURCES[config.source](config)
    train, val = hold_out(
        train_and_val, val_size=config.val_size, split_seed=config.split_seed
    )
    return Dataset(
        config.source, train, val, test=val if config.test_on == "val" else test
    )
