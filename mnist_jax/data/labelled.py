"""Labelled images from files: a folder of pictures, or a pair of IDX files."""

import csv
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from mnist_jax.data import idx
from mnist_jax.data.dataset import DIGITS, DataError, Split, Task, check

LABELS_FILE = "labels.csv"
# Edges that are brighter in the median are paper.
_PAPER = 191
_MODES = {3: "RGB", 4: "RGBA"}  # Pillow's, by the number of channels
_LAYOUT = (
    f"Put pictures into subfolders named after their classes, or next to a "
    f"{LABELS_FILE} with the columns file,label."
)


def read_folder(folder: Path, task: Task = DIGITS) -> Split:
    """Read a folder of pictures.

    Their classes are the names of subfolders, or in labels.csv.

    Raises:
        DataError: there is no such folder or no image in it, or an image has no label,
            an unknown one, or another shape.
    """
    if not folder.is_dir():
        raise DataError(f"{folder}: there is no such folder.")

    from mnist_jax.data import raster  # imported late: only pictures need Pillow

    known = raster.endings()
    files = sorted(
        path
        for path in folder.rglob("*")
        if path.suffix.lower() in known and not path.name.startswith(".")
    )
    table = folder / LABELS_FILE
    if table.exists():
        labels = _read_table(table)
    else:
        labels = {
            p: p.relative_to(folder).parts[0] for p in files if p.parent != folder
        }
    if unlabelled := [str(path) for path in files if path not in labels]:
        more = f" and {len(unlabelled) - 3} more" if unlabelled[3:] else ""
        raise DataError(f"{', '.join(unlabelled[:3])}{more}: no label. {_LAYOUT}")
    if not labels:
        raise DataError(f"{folder} holds no pictures. {_LAYOUT}")
    for path, label in labels.items():
        if label not in task.classes:
            known = ", ".join(task.classes)
            raise DataError(f"{path}: its label {label!r} is not one of {known}.")
    images = np.stack([_read(path, task.image_shape) for path in labels])
    numbers = [task.classes.index(label) for label in labels.values()]
    split = Split(images, np.array(numbers, np.uint8))
    check_dark(split.images, task, folder)
    return split


def read_idx(images_path: Path, labels_path: Path, task: Task = DIGITS) -> Split:
    """Read a file of images and one of labels, which count the classes from 0.

    The files may be gzipped.

    Raises:
        DataError: a file cannot be read, is damaged or holds something else.
    """
    images, labels = idx.read(images_path), idx.read(labels_path)
    whose = f"{images_path}, {labels_path}: the"
    split = check(images, labels, task, whose)
    check_dark(split.images, task, images_path)
    return split


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


def _read(path: Path, shape: tuple[int, int, int]) -> UInt8[np.ndarray, "h w c"]:
    from mnist_jax.data import raster  # imported late: only pictures need Pillow

    try:
        with raster.open_image(path) as image:
            if shape[2] == 1:
                pixels = raster.as_bytes(np.asarray(raster.to_grey(image)))
            else:
                pixels = np.asarray(image.convert(_MODES[shape[2]]))
    except raster.PhotoError as error:
        raise DataError(f"{path} {error}.") from error
    except OSError as error:
        raise DataError(f"Cannot read {path}: {error.strerror}.") from error
    if pixels.shape[:2] != shape[:2]:
        raise DataError(
            f"{path} has the shape {list(pixels.shape)}; images must be {list(shape)}. "
            "mnist_jax.data.centering.center_in_28x28 makes such images of digits."
        )
    return pixels.reshape(shape)


def check_dark(images: UInt8[np.ndarray, "N h w c"], task: Task, path: Path) -> None:
    """Raise DataError if most images are of dark digits on bright paper."""
    images = images[:: 1 + len(images) // 100_000]
    edge = np.ones(images.shape[1:], bool)
    edge[1:-1, 1:-1] = False
    bright = int((np.median(images[:, edge], axis=1) > _PAPER).sum())
    if 2 * bright > len(images) and task.classes == DIGITS.classes:
        raise DataError(
            f"{path}: {bright:,} of {len(images):,} images have a bright edge. Digits "
            "must be bright on black: write each pixel as 255 less its value."
        )
