"""predictions.npz: the logits of the test and of the validation images."""

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float32, Integer

from mnist_jax import files
from mnist_jax.runs.folder import damaged, unreadable

_VAL = "val_"


class Predictions(NamedTuple):
    """The labels of some images, and a network's logits for them."""

    labels: Integer[np.ndarray, " n"]
    logits: dict[str, Float32[np.ndarray, "n classes"]]
    """By weights: "last" and "best"."""
    images_sha256: str = ""
    """Checksum of the images; empty in the files of earlier versions."""
    val: "Predictions | None" = None
    """The same for the validation images; None in the files of earlier versions."""


def write(path: Path, predictions: Predictions) -> None:
    """Write the file atomically; OSError if it cannot be written."""
    arrays = _as_arrays(predictions, "")
    if predictions.val:
        arrays |= _as_arrays(predictions.val, _VAL)
    with files.atomic_writer(path) as file:
        np.savez_compressed(file, **arrays)  # type: ignore[arg-type]


def read(path: Path) -> Predictions:
    """Read the file.

    Raises:
        UserError: it is missing, cannot be read, is damaged or lacks an array.
    """
    try:
        with path.open("rb") as file, np.lib.npyio.NpzFile(file) as arrays:
            val = _from_arrays(arrays, _VAL) if f"{_VAL}labels" in arrays else None
            found = _from_arrays(arrays, "")._replace(val=val)
    except OSError as error:
        raise unreadable(path, error) from error
    except Exception as error:  # NumPy and zipfile raise a dozen kinds
        raise damaged(path, error) from error
    for part in filter(None, (found, val)):
        for weights, rows in part.logits.items():
            if rows.ndim != 2 or rows.shape[:1] != part.labels.shape:
                reason = f"labels are {part.labels.shape}, {weights} is {rows.shape}"
                raise damaged(path, reason)
    return found


def _as_arrays(predictions: Predictions, prefix: str) -> dict[str, np.ndarray]:
    arrays = {"labels": predictions.labels, **predictions.logits}
    arrays["images_sha256"] = np.array(predictions.images_sha256)
    return {f"{prefix}{name}": array for name, array in arrays.items()}


def _from_arrays(arrays: Mapping[str, np.ndarray], prefix: str) -> Predictions:
    logits = {weights: arrays[f"{prefix}{weights}"] for weights in ("last", "best")}
    name = f"{prefix}images_sha256"
    images_sha256 = str(arrays[name]) if name in arrays else ""
    return Predictions(arrays[f"{prefix}labels"], logits, images_sha256)
