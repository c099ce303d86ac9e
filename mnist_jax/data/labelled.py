"""Labelled images from files: a folder of PNG files, or a pair of IDX files."""

import csv
import math
import struct
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from mnist_jax.data import idx, raster
from mnist_jax.data.dataset import DIGITS, DataError, Split, Task

LABELS_FILE = "labels.csv"
# Edges that are brighter in the median are paper.
_PAPER = 191
_MODES = {1: "L", 3: "RGB", 4: "RGBA"}  # Pillow's, by the number of channels
_LAYOUT = (
    f"Put PNG files into subfolders named after their classes, or next to a "
    f"{LABELS_FILE} with the columns file,label."
)


def read_folder(folder: Path, task: Task = DIGITS) -> Split:
    """Read a folder of PNG files.

    Their classes are the names of subfolders, or in labels.csv.

    Raises:
        DataError: there is no such folder or no image in it, or an image has no label,
            an unknown one, or another shape.
    """
    if not folder.is_dir():
        raise DataError(f"{folder}: there is no such folder.")
    table = folder / LABELS_FILE
    files = sorted(
        path
        for path in folder.rglob("*")
        if path.suffix.lower() == ".png" and not path.name.startswith(".")
    )
    if table.exists():
        labels = _read_table(table)
    else:
        names = {path: path.relative_to(folder).parts[0] for path in files}
        labels = {path: name for path, name in names.items() if name != path.name}
    unlabelled = [str(path) for path in files if path not in labels]
    if unlabelled:
        more = f" and {len(unlabelled) - 3} more" if unlabelled[3:] else ""
        raise DataError(f"{', '.join(unlabelled[:3])}{more}: no label. {_LAYOUT}")
    if not labels:
        raise DataError(f"{folder} holds no PNG files. {_LAYOUT}")
    for path, label in labels.items():
        if label not in task.classes:
            known = ", ".join(task.classes[:10]) + (
                ", ..." if task.classes[10:] else ""
            )
            raise DataError(f"{path}: its label {label!r} is not one of {known}.")
    images = np.stack([_read_png(path, task.image_shape) for path in labels])
    numbers = [task.classes.index(label) for label in labels.values()]
    return _check(images, np.array(numbers, np.uint8), task, folder)


def read_idx(images_path: Path, labels_path: Path, task: Task = DIGITS) -> Split:
    """Read a file of images and one of labels, which count the classes from 0.

    The files may be gzipped.

    Raises:
        DataError: a file cannot be read, is damaged or holds something else.
    """
    images, labels = read_array(images_path), read_array(labels_path)
    if task.image_shape[2] == 1:
        images = images[..., np.newaxis]
    if images.shape[1:] != task.image_shape or not len(images):
        raise _bad_shape(images_path, images.shape, task.image_shape)
    if labels.shape != images.shape[:1]:
        raise DataError(
            f"{labels_path} has the shape {list(labels.shape)}, where the labels of "
            f"{images_path} have [{len(images)}]."
        )
    if labels.max() >= len(task.classes):
        raise DataError(
            f"{labels_path} has the label {labels.max()} at index {labels.argmax()}, "
            f"where labels are 0..{len(task.classes) - 1}."
        )
    return _check(images, labels, task, images_path)


def read_array(path: Path) -> UInt8[np.ndarray, "N ..."]:
    """Return the array in an IDX file, compressed or not, which may be damaged.

    Raises:
        DataError: the file cannot be read, or is not one of unsigned bytes.
    """
    content = idx.read_bytes(path)
    ndim = content[3] if content[:3] == b"\x00\x00\x08" and content[3:] else None
    if ndim is None or len(content) < 4 + 4 * ndim:
        raise DataError(f"{path} is not an IDX file of unsigned bytes.")
    shape = struct.unpack_from(f">{ndim}I", content, offset=4)
    if len(content) != 4 + 4 * ndim + math.prod(shape):
        raise DataError(
            f"{path} is cut off or has trailing bytes: its header announces the shape "
            f"{list(shape)}."
        )
    return idx.parse(content)


def _read_table(table: Path) -> dict[Path, str]:
    """Return the label of each file that labels.csv lists."""
    found: dict[Path, str] = {}
    try:
        with table.open(encoding="utf-8-sig", newline="") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"Cannot read {table}: {error}.") from error
    for line, row in enumerate(rows, start=2):
        name, label = row.get("file"), row.get("label")
        if name is None or label is None:
            raise DataError(
                f"{table}, line {line}: no file or no label. Its first line must be "
                "file,label and each other one an image's."
            )
        path = table.parent / name.strip()
        if path in found:
            raise DataError(f"{table}, line {line}: {name} is listed twice.")
        found[path] = label.strip()
    return found


def _read_png(path: Path, shape: tuple[int, int, int]) -> UInt8[np.ndarray, "h w c"]:
    try:
        with raster.open_image(path) as image:
            pixels = np.asarray(image.convert(_MODES[shape[2]]))
    except raster.PhotoError as error:
        raise DataError(f"{path} {error}.") from error
    except OSError as error:
        raise DataError(f"Cannot read {path}: {error.strerror}.") from error
    if pixels.shape[:2] != shape[:2]:
        raise _bad_shape(path, pixels.shape, shape)
    return pixels.reshape(shape)


def _bad_shape(
    path: Path, found: tuple[int, ...], wanted: tuple[int, ...]
) -> DataError:
    return DataError(
        f"{path} has the shape {list(found)}; images must be {list(wanted)}. "
        "mnist_jax.data.centering.center_in_28x28 makes such images of other digits."
    )


def _check(images: np.ndarray, labels: np.ndarray, task: Task, path: Path) -> Split:
    """Return a `Split`, unless most images are of dark digits on bright paper."""
    edge = np.ones(images.shape[1:], bool)
    edge[1:-1, 1:-1] = False
    bright = int((np.median(images[:, edge], axis=1) > _PAPER).sum())
    if 2 * bright > len(images) and task.classes == DIGITS.classes:
        raise DataError(
            f"{path}: {bright:,} of {len(images):,} images have a bright edge. Digits "
            "must be bright on black: write each pixel as 255 less its value."
        )
    return Split(images, labels)
