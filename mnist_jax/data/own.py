"""The user's own images in files: `--config.data.source=idx`, folder, npz or csv."""

import csv
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int, UInt8

from mnist_jax import files
from mnist_jax.config import ConfigError, Data
from mnist_jax.data import idx, idx_sets, labelled
from mnist_jax.data.dataset import DIGITS, DataError, Split, Task, check

__all__ = ["READERS", "load", "read_csv", "task"]

_PIXELS = 28 * 28
_HINT = " Name all classes with --config.data.classes."
_Arrays = tuple[Any, Any] | None


def task(config: Data) -> Task:
    """Return the classes of the images, which are grey and of 28x28; reads none.

    By default, they are the ten digits; for `folder`, the names of the subfolders of
    train/ in alphabetical order, if there are any and no labels.csv.

    Raises:
        UserError: there is no such folder.
    """
    classes, train = config.classes, _place(config) / "train"
    in_table = (train / labelled.LABELS_FILE).exists()
    if config.source == "folder" and train.is_dir() and not (classes or in_table):
        names = [path.name for path in train.iterdir() if path.is_dir()]
        classes = tuple(sorted(name for name in names if not name.startswith(".")))
    return Task(classes or DIGITS.classes)


def load(config: Data) -> tuple[Split, Split | None]:
    """Return the training images, and the test images if there are any with labels.

    Raises:
        UserError: there are no training images, or a file cannot be read or does not
            hold images and labels of `task(config)`.
    """
    place, its_task = _place(config), task(config)
    read, needed = READERS[config.source]
    parts = []
    for part in ("train", "test"):
        found = read(place, part, its_task)
        split = found and check(*found, its_task, f"{place}: the {part}", hint=_HINT)
        if split:
            labelled.check_dark(split.images, its_task, place)
        parts.append(split)
    train, test = parts
    if train is None:
        raise DataError(f"--config.data.dir={place} has no {needed}.")
    return train, test


def read_csv(
    path: Path,
) -> tuple[UInt8[np.ndarray, "N 28 28"], Int[np.ndarray, " N"] | None]:
    """Read a table with a row for each image, such as Kaggle's train.csv and test.csv.

    Its columns are the label, which may be missing, and the pixels, whole numbers in
    0..255, row by row. If it has a header, this numbers the pixels in this order.

    Returns:
        The images, and the labels if there are any.

    Raises:
        DataError: it cannot be read, or is not such a table.
    """
    try:
        with path.open(encoding="utf-8-sig") as file:
            header = next(csv.reader(file), [])
            has_header = any(map(str.isalpha, "".join(header)))
            if not header or (has_header and not file.read(1)):
                raise ValueError("it has no rows")
        is_labelled = header[0] == "label" if has_header else len(header) > _PIXELS
        pixels = header[is_labelled:]
        if len(pixels) != _PIXELS:
            raise ValueError(f"it has {len(pixels)} columns of pixels, not {_PIXELS}")
        numbers = [[int(x) for x in re.findall(r"\d+", name)] for name in pixels]
        if has_header and numbers != sorted(numbers):
            raise ValueError(
                f"its columns are not in the order label,pixel0,...,pixel{_PIXELS - 1}"
            )
        options: dict[str, Any] = {"quotechar": '"', "comments": None, "ndmin": 2}
        table = np.loadtxt(
            path, np.int16, delimiter=",", skiprows=int(has_header), **options
        )
        images = table[:, -_PIXELS:].reshape(-1, 28, 28)
        if images.min() < 0 or images.max() > 255:
            raise ValueError(f"it has pixels in {images.min()}..{images.max()}")
    except (OSError, ValueError, csv.Error) as error:
        reason = getattr(error, "strerror", None) or str(error).partition(";")[0]
        raise DataError(
            f"Cannot read {path}: {reason.rstrip('.')}. A row has a label or none, and "
            f"{_PIXELS} pixels, whole numbers in 0..255."
        ) from error
    return images.astype(np.uint8), table[:, 0] if is_labelled else None


def _place(config: Data) -> Path:
    if not config.dir:
        raise ConfigError(
            f"data.source={config.source} needs --config.data.dir=FOLDER."
        )
    place = files.expand(config.dir)
    if not place.exists():
        raise DataError(f"--config.data.dir={place}: there is no such folder.")
    return place


def _read_idx(place: Path, part: str, _: Task) -> _Arrays:
    prefix = "train" if part == "train" else "t10k"
    images = idx_sets.find(place, f"{prefix}-images-idx3-ubyte.gz")
    labels = idx_sets.find(place, f"{prefix}-labels-idx1-ubyte.gz")
    return (idx.read(images), idx.read(labels)) if images and labels else None


def _read_folder(place: Path, part: str, its_task: Task) -> _Arrays:
    if not (place / part).is_dir():
        return None
    found = labelled.read_folder(place / part, its_task)
    for label, name in enumerate(its_task.classes):
        if part == "train" and label not in found.labels:
            raise DataError(f"{place / part} holds no pictures of the class {name}.")
    return found.images, found.labels


def _read_npz(place: Path, part: str, _: Task) -> _Arrays:
    path = _only([place] if place.is_file() else [*place.glob("*.npz")])
    if not path:
        return None
    try:
        arrays: Any = np.load(path, allow_pickle=False)
        if part == "test" and "x_test" not in arrays:
            return None
        return arrays[f"x_{part}"], arrays[f"y_{part}"]
    except Exception as error:  # NumPy and zipfile raise a dozen kinds
        raise DataError(
            f"Cannot read {path}: {error}. It must have the arrays x_train, y_train "
            "and, to test on, x_test and y_test."
        ) from error


def _read_csv(place: Path, part: str, _: Task) -> _Arrays:
    path = _only([*place.glob(f"*{part}.csv")])
    images, labels = read_csv(path) if path else (None, None)
    return None if labels is None else (images, labels)


def _only(paths: Sequence[Path]) -> Path | None:
    if len(paths) > 1:
        names = " and ".join(sorted(path.name for path in paths))
        raise DataError(f"{paths[0].parent} holds {names}: leave one of them there.")
    return paths[0] if paths else None


READERS: dict[str, tuple[Callable[[Path, str, Task], _Arrays], str]] = {
    "idx": (_read_idx, "train-images-idx3-ubyte or no train-labels-idx1-ubyte"),
    "folder": (_read_folder, "subfolder train"),
    "npz": (_read_npz, "file *.npz"),
    "csv": (_read_csv, "file *train.csv with labels"),
}
"""By source: a function that reads "train" or "test", and the files that it needs."""
