"""Where images come from: `load(config.data)` gives the train, val and test images.

Whatever the source, the result looks the same: uint8 images [N, 28, 28, 1] and integer
labels 0..9, in the source's own order. What a source needs is imported when it is asked
for, so that this package itself costs no more than NumPy.
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


def _load_digits(config: Data) -> tuple[Split, Split]:
    del config  # The set lies inside scikit-learn: no folder, no mirrors.
    from mnist_jax.data import digits

    return digits.load()


# Each returns (training images, test images); the first are divided by `load`.
SOURCES: dict[str, Callable[[Data], tuple[Split, Split]]] = {
    "mnist": _load_mnist,
    "tfds": _load_tfds,
    "digits": _load_digits,
}


def load(config: Data) -> Dataset:
    """Load a data set and hold out its validation images.

    Args:
        config: the source, and how its images are divided.

    Raises:
        DataError: a file is damaged or cannot be downloaded, or the training images do
            not allow a validation set of this size. The message says how to go on.
    """
    train_and_val, test = SOURCES[config.source](config)
    train, val = hold_out(
        train_and_val, val_size=config.val_size, split_seed=config.split_seed
    )
    return Dataset(
        config.source, train, val, test=val if config.test_on == "val" else test
    )
