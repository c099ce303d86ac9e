"""Data sets: `load(config.data)` returns train, val and test images.

`SOURCES` lists the built-in data sets; each is imported on first use, so that importing
this package costs no more than NumPy. Any other data set is a function that is marked
with the names of its classes, in a module that Python finds from the current folder:

    from mnist_jax import data

    @data.source("T-shirt", "Ankle boot", "Bag")
    def load(config):
        ...
        return (train_images, train_labels), (test_images, test_labels)

Use it with `--config.data.source=my_data:load`; runs store that name. Images are uint8
[N, 28, 28] (or of another shape, see `source`), 0 for the background; labels are
integers from 0, in the order of the classes. The argument is the section `data` of the
config; its `dir` may name the folder of the files. Validation images are held out of
the training images, as for built-in data sets.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from mnist_jax.config import Data, load_object
from mnist_jax.data.dataset import (
    DIGITS,
    DataError,
    Dataset,
    Split,
    Task,
    hold_out,
    images_sha256,
)
from mnist_jax.errors import UserError

__all__ = [
    "DIGITS",
    "SOURCES",
    "DataError",
    "Dataset",
    "Source",
    "Split",
    "Task",
    "images_sha256",
    "load",
    "read",
    "source",
    "task",
]


class Source(NamedTuple):
    """A data set that can be loaded."""

    task: Task
    load: Callable[[Data], Any]
    """Returns what to train on, and what to test on: each a `Split`, or a pair of
    arrays, images and labels."""


def source(
    *classes: str, image_shape: tuple[int, int, int] = (28, 28, 1)
) -> Callable[[Callable[[Data], Any]], Source]:
    """Mark a function as a data set.

    Args:
        classes: their names, in the order of the labels.
        image_shape: height, width and channels.
    """
    return lambda function: Source(Task(classes, image_shape), function)


def _load_mnist(config: Data) -> tuple[Split, Split]:
    from mnist_jax.data import mnist

    return mnist.load(mnist.data_dir(config.dir), config.mirrors)


def _load_tfds(config: Data) -> tuple[Split, Split]:
    from mnist_jax.data import mnist, tfds

    return tfds.load(mnist.data_dir(config.dir), config.mirrors)


def _load_digits(_: Data) -> tuple[Split, Split]:
    from mnist_jax.data import digits

    return digits.load()


SOURCES: dict[str, Source] = {
    "mnist": Source(DIGITS, _load_mnist),
    "tfds": Source(DIGITS, _load_tfds),
    "digits": Source(DIGITS, _load_digits),
}


def task(config: Data) -> Task:
    """Return the classes and the shape of images of a data set; reads no images.

    Raises:
        UserError: there is no such data set, or its classes have bad names.
    """
    return _find(config.source).task


def read(config: Data) -> tuple[Split, Split]:
    """Return all training images, those for validation among them, and the test images.

    Raises:
        UserError: there is no such data set, or its images or labels cannot be read or
            are not those of its task.
    """
    found, flag = _find(config.source), f"--config.data.source={config.source}"
    parts = found.load(config)
    if len(parts) != 2:
        raise DataError(f"{flag} returns {len(parts)} parts, where two are expected.")
    train, test = (
        _check(part, found.task, f"{flag}: its {name}")
        for part, name in zip(parts, ("training", "test"), strict=True)
    )
    return train, test


def load(config: Data) -> Dataset:
    """Load a data set and hold out its validation images.

    Raises:
        UserError: as in `read`; or there are too few training images for a validation
            set of this size.
    """
    train, test = read(config)
    val_size, split_seed = config.val_size, config.split_seed
    train, val = hold_out(train, val_size=val_size, split_seed=split_seed)
    if config.test_on == "val":
        test = val
    return Dataset(config.source, train, val, test, task(config))


def _find(name: str) -> Source:
    if name in SOURCES:
        return SOURCES[name]
    flag = f"--config.data.source={name}"
    if ":" not in name:
        raise UserError(
            f"{flag}: unknown (known: {', '.join(SOURCES)}). To use a function in "
            "my_data.py as a data set, name it my_data:load."
        )
    found = load_object(name, "--config.data.source")
    if not isinstance(found, Source):
        raise UserError(
            f"{flag} is not a data set: mark the function that loads it with "
            "@mnist_jax.data.source(CLASS, CLASS, ...)."
        )
    classes = found.task.classes
    for label in classes:
        if not label.isprintable() or label != label.strip() or not label:
            raise UserError(
                f"{flag}: a class is called {label!r}. Its name must not be empty, "
                "begin or end with a space, or have line breaks in it."
            )
        if classes.count(label) > 1:
            raise UserError(f"{flag}: two classes are called {label!r}.")
    if not 2 <= len(classes) <= 256:
        raise UserError(f"{flag} has {len(classes)} classes, not 2 to 256.")
    return found


def _check(part: Any, asked: Task, whose: str) -> Split:
    """Return images and labels as a `Split`, if they are those of a task."""
    pair = (part.images, part.labels) if isinstance(part, Split) else part
    images, labels = map(np.asarray, pair)
    if images.shape[1:] == asked.image_shape[:2] and asked.image_shape[2] == 1:
        images = images[..., np.newaxis]
    if images.dtype != np.uint8 or images.shape[1:] != asked.image_shape:
        raise DataError(
            f"{whose} images are {images.dtype} {list(images.shape)}, where uint8 [N, "
            f"{', '.join(map(str, asked.image_shape))}] in 0..255 is expected."
        )
    if not np.issubdtype(labels.dtype, np.integer) or labels.shape != images.shape[:1]:
        raise DataError(
            f"{whose} labels are {labels.dtype} {list(labels.shape)}, where integers "
            f"[{len(images)}] are expected."
        )
    if not len(labels):
        raise DataError(f"{whose} set has no images.")
    count = len(asked.classes)
    for label in (labels.min(), labels.max()):
        if not 0 <= label < count:
            raise DataError(
                f"{whose} labels have {label} at index {labels.tolist().index(label)}, "
                f"not one of 0..{count - 1}: there are {count} classes."
            )
    return Split(images, labels.astype(np.uint8))
