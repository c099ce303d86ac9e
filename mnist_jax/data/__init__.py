"""Data sets: `load(config.data)` returns train, val and test images.

The built-in data sets are imported on first use, so that importing this package costs
no more than NumPy. `source` marks a function as another data set.
"""

import functools
import importlib
from collections.abc import Callable
from typing import Any, NamedTuple

from mnist_jax.config import Data, load_object
from mnist_jax.config.fields import did_you_mean
from mnist_jax.data import idx_sets, own
from mnist_jax.data.dataset import (
    DIGITS,
    DataError,
    Dataset,
    Rows,
    Split,
    Task,
    check,
    hold_out,
    images_sha256,
    subset,
)
from mnist_jax.data.idx_sets import SETS
from mnist_jax.errors import UserError

__all__ = [
    "DIGITS",
    "SOURCES",
    "DataError",
    "Dataset",
    "Rows",
    "Source",
    "Split",
    "Task",
    "check",
    "hold_out",
    "images_sha256",
    "load",
    "read",
    "source",
    "subset",
    "task",
]


class Source(NamedTuple):
    """A data set that can be loaded."""

    task: Task
    load: Callable[[Data], Any]
    """Returns the training and the test images: each a `Split` or a pair of arrays, or
    None if there are no test images."""


def source(
    *classes: str, image_shape: tuple[int, int, int] = (28, 28, 1)
) -> Callable[[Callable[[Data], Any]], Source]:
    """Mark a function as a data set, for `--config.data.source=my_data:load`.

        @data.source("T-shirt", "Ankle boot", "Bag")
        def load(config):
            ...
            return (train_images, train_labels), (test_images, test_labels)

    Its argument is the section `data` of the config, whose `dir` may name the folder of
    the files. Images are uint8 [N, height, width, channels], or [N, height, width] if
    grey, with 0 for the background; labels are integers from 0, in the order of the
    classes. Validation images are held out of the training images.

    Args:
        classes: their names.
        image_shape: height, width and channels.
    """
    return lambda function: Source(Task(classes, image_shape), function)


SOURCES: dict[str, Task] = {
    **{name: Task(each.classes) for name, each in SETS.items()},
    **dict.fromkeys(("tfds", "digits"), DIGITS),
}
"""The data sets that are known by name, and their tasks."""


def task(config: Data) -> Task:
    """Return the classes and the shape of images of a data set; reads no images.

    Raises:
        UserError: there is no such data set, or its classes have invalid names.
    """
    return (not config.classes and SOURCES.get(config.source)) or _find(config).task


def read(config: Data) -> tuple[Split, Split]:
    """Return all training images, those for validation among them, and the test images.

    Raises:
        UserError: there is no such data set, or its images or labels cannot be read or
            are not those of its task; or there are no test images, and `test_on` is not
            "val".
    """
    found, flag = _find(config), f"--config.data.source={config.source}"
    parts = found.load(config)
    try:
        train, test = parts
        train = train if isinstance(train, Split) else Split(*train)
        if not isinstance(test, Split | None):
            test = Split(*test)
    except (TypeError, ValueError) as error:
        raise DataError(
            f"{flag} does not return (images, labels) to train on and to test on: "
            f"{error}."
        ) from error
    train = check(train.images, train.labels, found.task, f"{flag}: its training")
    if test is None and config.test_on == "val":
        return train, Split(train.images[:0], train.labels[:0])
    if test is None:
        raise DataError(
            f"{flag}: there are no test images with labels. Pass "
            "--config.data.test_on=val to test on the validation images."
        )
    return train, check(test.images, test.labels, found.task, f"{flag}: its test")


def load(config: Data) -> Dataset:
    """Load a data set, hold out its validation images, and draw the training subset.

    Raises:
        UserError: as in `read`; or there are too few training images for a validation
            set or a subset of this size.
    """
    train, test = read(config)
    sizes = {"val_size": config.val_size, "split_seed": config.split_seed}
    limit, image_bytes = 1e6 * config.images_megabytes, train.images[0].nbytes
    fits = len(train) * image_bytes <= limit
    train, val = hold_out(train, **sizes, copy=fits)
    if config.train_size:
        sizes = {"train_size": config.train_size, "subset_seed": config.subset_seed}
        fits = fits or config.train_size * image_bytes <= limit
        train = subset(train, **sizes, task=task(config), copy=fits)
    if config.test_on == "val":
        test = val
    return Dataset(config.source, train, val, test, task(config))


def _find(config: Data) -> Source:
    name, flag = config.source, f"--config.data.source={config.source}"
    if config.classes and name not in own.READERS:
        raise UserError(
            f"{flag} defines its classes. Leave out --config.data.classes, which is "
            f"for {', '.join(own.READERS)}."
        )
    if name in SETS:
        return Source(SOURCES[name], functools.partial(idx_sets.load, name=name))
    if name in SOURCES:
        module = importlib.import_module(f"mnist_jax.data.{name}")
        return Source(SOURCES[name], module.load)
    if name in own.READERS:
        found = Source(own.task(config), own.load)
    elif ":" not in name:
        known = (*SOURCES, *own.READERS)
        raise UserError(
            f"{flag}: unknown (known: {', '.join(known)}).{did_you_mean(name, known)} "
            "To use a function in my_data.py as a data set, name it my_data:load."
        )
    else:
        found = load_object(name, "--config.data.source")
    if not isinstance(found, Source):
        raise UserError(
            f"{flag} is not a data set: mark the function that loads it with "
            "@mnist_jax.data.source(CLASS, CLASS, ...)."
        )
    classes = found.task.classes
    if len(set(classes)) < len(classes) or not 2 <= len(classes) <= 256:
        raise UserError(
            f"{flag} has the classes {', '.join(classes)}, not 2 to 256 different ones."
        )
    for label in classes:
        if not label.isprintable() or label != label.strip() or not label:
            raise UserError(
                f"{flag}: a class is called {label!r}. Its name must not be empty, "
                "begin or end with a space, or have line breaks in it."
            )
    return found
