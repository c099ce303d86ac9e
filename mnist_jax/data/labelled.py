"""Labelled images of one's own: a folder of PNG files, or a pair of IDX files."""

import csv
import gzip
import math
import struct
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from mnist_jax.data import idx, raster
from mnist_jax.data.dataset import DIGITS, DataError, Split, Task

LABELS_FILE = "labels.csv"
_GZIP, _UNSIGNED_BYTES = b"\x1f\x8b", b"\x00\x00\x08"
# Edges that are brighter in the median are paper.
_PAPER = 191
_LAYOUT = (
    "Put PNG files into subfolders named after their classes, or next to a labels.csv "
    "with the columns file,label."
)
_FORMAT = (
    "Images must be MNIST's: 28x28, grey, bright digits on black, in the middle. "
    "mnist_jax.data.centering.center_in_28x28 makes such images of others."
)


def read_folder(folder: Path, task: Task = DIGITS) -> Split:
    """Read a folder of PNG files.

    Their classes are the names of subfolders, or in labels.csv.

    Raises:
        DataError: there is no such folder or no image in it, or an image has no label,
            an unknown one or another size.
    """
    if not folder.is_dir():
        raise DataError(f"{folder}: there is no such folder.")
    table = folder / LABELS_FILE
    read_labels = _labels_of_table if table.exists() else _labels_of_names
    labels = read_labels(folder, task.classes)
    if not labels:
        raise DataError(f"{folder} holds no PNG files. {_LAYOUT}")
    images = np.stack([_read_png(path, task.image_shape[:2]) for path in labels])
    _check_background(images, folder)
    return Split(images[..., None], np.array(list(labels.values()), np.uint8))


def read_idx(images_path: Path, labels_path: Path, task: Task = DIGITS) -> Split:
    """Read a file of images and one of labels, which count the classes from 0.

    The files may be gzipped.

    Raises:
        DataError: a file cannot be read, is damaged or holds something else.
    """
    images, labels = read_array(images_path), read_array(labels_path)
    shape = task.image_shape[:2]
    if images.ndim != 3 or images.shape[1:] != shape:
        raise DataError(
            f"{images_path} has the shape {list(images.shape)}, where images have "
            f"[N, {shape[0]}, {shape[1]}]. {_FORMAT}"
        )
    if labels.ndim != 1 or len(labels) != len(images):
        raise DataError(
            f"{labels_path} has the shape {list(labels.shape)}, where the labels of "
            f"{images_path} have [{len(images)}]."
        )
    if not len(labels):
        raise DataError(f"{images_path} has no images in it.")
    if labels.max() >= len(task.classes):
        raise DataError(
            f"{labels_path} has the label {labels.max()} at index {labels.argmax()}, "
            f"where labels are 0..{len(task.classes) - 1}."
        )
    _check_background(images, images_path)
    return Split(images[..., None], labels)


def _check_background(images: UInt8[np.ndarray, "N h w"], path: Path) -> None:
    """Reject images of dark digits on bright paper."""
    edge = np.ones(images.shape[1:], bool)
    edge[1:-1, 1:-1] = False
    bright = int((np.median(images[:, edge], axis=1) > _PAPER).sum())
    if 2 * bright > len(images):
        raise DataError(
            f"{path}: {bright:,} of {len(images):,} images have a bright edge. Digits "
            "must be bright on black: write each pixel as 255 less its value."
        )


def _labels_of_names(folder: Path, classes: Sequence[str]) -> dict[Path, int]:
    """Return the label of each PNG file, by the subfolder it is in."""
    loose, known, unknown = [], {}, []
    for path in _pngs(folder):
        parts = path.relative_to(folder).parts
        if len(parts) == 1:
            loose.append(path)
        elif parts[0] in classes:
            known[path] = classes.index(parts[0])
        else:
            unknown.append(folder / parts[0])
    if unknown:
        raise DataError(
            f"{_listed(list(dict.fromkeys(unknown)))}: a subfolder's name is the class "
            f"of its images, {_range(classes)}."
        )
    if loose:
        raise DataError(f"{_listed(loose)}: no label. {_LAYOUT}")
    return known


def _labels_of_table(folder: Path, classes: Sequence[str]) -> dict[Path, int]:
    """Return the label of each PNG file that labels.csv lists; it must list all."""
    table = folder / LABELS_FILE
    found: dict[Path, int] = {}
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
        if label.strip() not in classes:
            raise DataError(
                f"{table}, line {line}: the label of {name} is {label!r}, not one of "
                f"{_range(classes)}."
            )
        if path in found:
            raise DataError(f"{table}, line {line}: {name} is listed twice.")
        if not path.is_file():
            raise DataError(f"{table}, line {line}: there is no file {path}.")
        found[path] = classes.index(label.strip())
    unlisted = [path for path in _pngs(table.parent) if path not in found]
    if unlisted:
        raise DataError(f"{_listed(unlisted)}: no label in {table}.")
    return found


def _pngs(folder: Path) -> list[Path]:
    return sorted(
        path
        for path in folder.rglob("*")
        if path.suffix.lower() == ".png" and not path.name.startswith(".")
    )


def _read_png(path: Path, shape: tuple[int, ...]) -> UInt8[np.ndarray, "h w"]:
    try:
        with raster.open_image(path) as image:
            grey = np.asarray(image.convert("L"))
    except raster.PhotoError as error:
        raise DataError(f"{path} {error}.") from error
    except OSError as error:
        raise DataError(f"Cannot read {path}: {error.strerror}.") from error
    if grey.shape != shape:
        height, width = grey.shape
        raise DataError(f"{path} is {width}x{height} pixels. {_FORMAT}")
    return grey


def read_array(path: Path) -> UInt8[np.ndarray, "N ..."]:
    """Return the array in an IDX file, compressed or not, which may be damaged.

    Raises:
        DataError: the file cannot be read, or is not one of unsigned bytes.
    """
    try:
        content = path.read_bytes()
        if content.startswith(_GZIP):
            content = gzip.decompress(content)
    except (OSError, EOFError, zlib.error) as error:
        reason = getattr(error, "strerror", None) or error
        raise DataError(f"Cannot read {path}: {reason}.") from error
    ndim = content[3] if content[:3] == _UNSIGNED_BYTES and content[3:] else None
    if ndim is None or len(content) < 4 + 4 * ndim:
        raise DataError(f"{path} is not an IDX file of unsigned bytes.")
    shape = struct.unpack_from(f">{ndim}I", content, offset=4)
    if len(content) != 4 + 4 * ndim + math.prod(shape):
        raise DataError(
            f"{path} is cut off or has trailing bytes: its header announces the shape "
            f"{list(shape)}."
        )
    return idx.parse(content)


def _range(classes: Sequence[str]) -> str:
    if tuple(classes) == DIGITS.classes:
        return "0 to 9"
    return ", ".join(classes[:5]) + (", ..." if classes[5:] else "")


def _listed(paths: Sequence[Path]) -> str:
    names = [str(path) for path in paths]
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if names[3:] else "")
