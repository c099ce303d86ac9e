"""Data sets, their tasks, and the choice of validation images."""

import dataclasses
import hashlib
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import UInt8

from mnist_jax.errors import UserError


class DataError(UserError):
    """Data that cannot be obtained or cannot be trusted."""


class Task(NamedTuple):
    """A classification task: to name the class that an image shows.

    Attributes:
        classes: the names of the classes, in the order of the logits; any text.
        image_shape: height, width and channels.
    """

    classes: tuple[str, ...]
    image_shape: tuple[int, int, int] = (28, 28, 1)


DIGITS = Task(tuple("0123456789"))
"""The ten digits of MNIST."""


class Rows:
    """Some images of an array that stays where it is, such as on the disk."""

    def __init__(self, array: np.ndarray, rows: np.ndarray):
        self._array, self._rows = array, rows
        self.shape, self.dtype = (len(rows), *array.shape[1:]), array.dtype

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: Any) -> np.ndarray:
        return self._array[self._rows[index]]


@dataclasses.dataclass(frozen=True)
class Split:
    """Images with their labels.

    Attributes:
        images: 0 (background) to 255 (ink). Training images that take more memory than
            they may are `Rows`.
        labels: indices of classes, from 0.
    """

    images: UInt8[np.ndarray, "N height width channels"]
    labels: UInt8[np.ndarray, " N"]

    def __len__(self) -> int:
        return len(self.labels)


@dataclasses.dataclass(frozen=True)
class Dataset:
    """Training, validation and test images, and their task."""

    name: str
    train: Split
    val: Split
    test: Split
    task: Task = DIGITS


def check(images: Any, labels: Any, task: Task, whose: str, *, hint: str = "") -> Split:
    """Return images with their labels, if they are those of a task.

    Images whose pixels are all 0 or 1 are multiplied by 255.

    Args:
        images: [N, height, width, channels], or [N, height, width] if grey.
        labels: integers [N].
        task: the classes, and the shape of an image.
        whose: whose images and labels they are: the first words of the messages.
        hint: ends the message that there are more classes.

    Raises:
        DataError: the images or labels have another type, shape or range.
    """
    images, labels = np.asarray(images), np.asarray(labels)
    if images.shape[1:] == task.image_shape[:2] and task.image_shape[2] == 1:
        images = images[..., np.newaxis]
    if images.dtype != np.uint8 or images.shape[1:] != task.image_shape:
        raise DataError(
            f"{whose} images are {images.dtype} {list(images.shape)}, where uint8 [N, "
            f"{', '.join(map(str, task.image_shape))}] in 0..255 is expected."
        )
    if not np.issubdtype(labels.dtype, np.integer) or labels.shape != images.shape[:1]:
        raise DataError(
            f"{whose} labels are {labels.dtype} {list(labels.shape)}, where integers "
            f"[{len(images)}] are expected."
        )
    if not len(labels):
        raise DataError(f"{whose} set has no images.")
    count = len(task.classes)
    for label in (labels.min(), labels.max()):
        if not 0 <= label < count:
            raise DataError(
                f"{whose} labels have {label} at index {labels.tolist().index(label)}, "
                f"not one of 0..{count - 1}: there are {count} classes.{hint}"
            )
    if images.max() == 1:
        images = 255 * images
    return Split(images, labels.astype(np.uint8))


def images_sha256(images: UInt8[np.ndarray, " ..."]) -> str:
    """Return the SHA-256 of an array's shape and values, in hex: it identifies them."""
    digest = hashlib.sha256(f"{images.shape}".encode())
    digest.update(np.ascontiguousarray(images).data)  # seldom a copy
    return digest.hexdigest()


def hold_out(
    split: Split, *, val_size: int, split_seed: int, copy: bool = True
) -> tuple[Split, Split]:
    """Hold out random images, the same ones on every machine.

    These are the first `val_size` entries of a permutation of 0..N-1, drawn with
    `split_seed`. Both parts keep the order of the images.

    Args:
        split: N images.
        val_size: how many to hold out, 1..N-1.
        split_seed: 0..2**32-1.
        copy: whether to copy the remaining images, or to return `Rows`.

    Returns:
        The remaining images, and those held out.

    Raises:
        DataError: `val_size` is out of range.
    """
    count = len(split)
    if not 1 <= val_size < count:
        raise DataError(
            f"--config.data.val_size={val_size}: must be 1..{count - 1}, as there are "
            f"{count} images to divide into training and validation."
        )
    # RandomState's numbers never change (NEP 19), unlike Generator's.
    permutation = np.random.RandomState(split_seed).permutation(count)
    held_out = np.zeros(count, dtype=bool)
    held_out[permutation[:val_size]] = True
    images: Any = Rows(split.images, np.flatnonzero(~held_out))
    return (
        Split(images[:] if copy else images, split.labels[~held_out]),
        Split(split.images[held_out], split.labels[held_out]),
    )


def subset(
    split: Split, *, train_size: int, subset_seed: int, task: Task, copy: bool = True
) -> Split:
    """Draw a stratified subset, the same one on every machine.

    Every class has its share of the images, rounded, and at least one of them. A subset
    contains all smaller ones of the same seed, and keeps the order of the images.

    Args:
        split: N images.
        train_size: how many to draw, from the number of classes to N.
        subset_seed: 0..2**32-1.
        task: the classes.
        copy: whether to copy the images, or to return `Rows`.

    Raises:
        DataError: `train_size` is out of range, or a class has no images.
    """
    classes, count = len(task.classes), len(split)
    if not classes <= train_size <= count:
        raise DataError(
            f"--config.data.train_size={train_size}: must be {classes}..{count}, as "
            f"there are {classes} classes and, without those for validation, {count} "
            "training images."
        )
    order = np.random.RandomState(subset_seed).permutation(count)
    # Each image's place among those of its class, as a share of the class.
    place = np.empty(count)
    for label, name in enumerate(task.classes):
        members = order[split.labels[order] == label]
        if not len(members):
            raise DataError(
                f"There is no subset of {train_size} training images with all classes: "
                f"no training image shows {name}."
            )
        place[members] = np.arange(len(members)) / len(members)
    chosen = np.sort(np.argsort(place, kind="stable")[:train_size])
    images: Any = Rows(split.images, chosen)
    return Split(images[:] if copy else images, split.labels[chosen])
