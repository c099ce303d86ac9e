"""Misread images and their labels, in a folder for `mnist-jax evaluate --data`."""

import csv
import hashlib
import io
from pathlib import Path

import filelock
import numpy as np
from jaxtyping import UInt8
from PIL import Image

from mnist_jax import files
from mnist_jax.data.labelled import LABELS_FILE
from mnist_jax.errors import UserError

_COLUMNS = ["file", "label", "read_as"]


class Corrections:
    """A folder of 28x28 PNG files and their labels.csv, created with the first image.

    Raises:
        UserError: its labels.csv cannot be read, or is another table.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        self._table = folder / LABELS_FILE
        self._read()

    def add(
        self, image: UInt8[np.ndarray, "28 28"], *, label: str, read_as: str
    ) -> int:
        """Save an image, bright on dark, or replace its label.

        Args:
            image: the image.
            label: its class.
            read_as: the answers of the networks, for the third column.

        Returns:
            The number of images in the folder.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        name = f"{hashlib.sha256(image.tobytes()).hexdigest()[:12]}.png"
        # Another demo, or another request, may be writing to the same table.
        with filelock.FileLock(self.folder / ".lock"):
            columns, rows = self._read()
            rows = [row for row in rows if row["file"] != name]
            rows.append({"file": name, "label": label, "read_as": read_as})
            with files.atomic_writer(self.folder / name) as file:
                Image.fromarray(image).save(file, "PNG")
            text = io.StringIO()
            writer = csv.DictWriter(text, columns, lineterminator="\n", restval="")
            writer.writeheader()
            writer.writerows(rows)
            files.write_text(self._table, text.getvalue())
        return len(rows)

    def _read(self) -> tuple[list[str], list[dict[str, str]]]:
        """Return the columns and rows of labels.csv, those of others included."""
        if not self._table.exists():
            return _COLUMNS, []
        try:
            with self._table.open(encoding="utf-8-sig", newline="") as file:
                reader = csv.DictReader(file, strict=True)
                rows, columns = list(reader), list(reader.fieldnames or [])
        except (UnicodeDecodeError, csv.Error) as error:
            raise UserError(f"Cannot read {self._table}: {error}.") from error
        if not {"file", "label"} <= set(columns) or any(None in row for row in rows):
            raise UserError(
                f"{self._table} is not a table of images: its first line must be "
                "file,label and each other one an image's."
            )
        return list(dict.fromkeys(columns + _COLUMNS)), rows
