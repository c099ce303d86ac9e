"""predictions.npz: the logits of the test and of the validation images."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float32, Integer

from mnist_jax import files
from mnist_jax.runs.folder import damaged, unreadable

ONLY = "logits"
"""The name of the logits of runs that have one set of them, unlike networks."""

_PREFIXES = "", "val_"  # of the arrays of the test and of the validation images


class Predictions(NamedTuple):
    """The labels of some images, and a network's logits for them."""

    labels: Integer[np.ndarray, " n"]
    logits: dict[str, Float32[np.ndarray, "n classes"]]
    """By weights: "last" and "best" of a network, `ONLY` of others."""
    images_sha256: str
    """Checksum of the images."""


def write(path: Path, test: Predictions, val: Predictions) -> None:
    """Write the file atomically; OSError if it cannot be written."""
    arrays = {}
    for prefix, part in zip(_PREFIXES, (test, val), strict=True):
        named = {"labels": part.labels, "images_sha256": np.array(part.images_sha256)}
        named |= part.logits
        arrays |= {f"{prefix}{name}": array for name, array in named.items()}
    with files.atomic_writer(path) as file:
        np.savez_compressed(file, **arrays)


def read(path: Path) -> tuple[Predictions, Predictions]:
    """Read the predictions for the test and for the validation images.

    Raises:
        UserError: it is missing, cannot be read, is damaged or lacks an array.
    """
    found = []
    try:
        with path.open("rb") as file, np.lib.npyio.NpzFile(file) as arrays:
            names = [ONLY] if ONLY in arrays else ["last", "best"]
            for prefix in _PREFIXES:
                logits = {name: arrays[f"{prefix}{name}"] for name in names}
                sha256 = str(arrays[f"{prefix}images_sha256"])
                found.append(Predictions(arrays[f"{prefix}labels"], logits, sha256))
    except OSError as error:
        raise unreadable(path, error) from error
    except Exception as error:  # NumPy and zipfile raise a dozen kinds
        raise damaged(path, error) from error
    for labels, logits, _ in found:
        for weights, rows in logits.items():
            if rows.ndim != 2 or rows.shape[:1] != labels.shape:
                reason = f"labels are {labels.shape}, {weights} is {rows.shape}"
                raise damaged(path, reason)
    test, val = found
    return test, val
