"""Read a file of weights in any supported format, which its content reveals."""

import zipfile
from pathlib import Path

import numpy as np

from mnist_jax.runs import weights
from mnist_jax.runs.folder import RunFolder
from mnist_jax.runs.weights import WeightsError

_HDF5 = b"\x89HDF\r\n\x1a\n"
_ZIP = b"PK\x03\x04"
_PICKLE = b"\x80"  # of protocol 2 or later
KERAS_WEIGHTS = "model.weights.h5"  # in a `.keras` archive


def read(path: Path) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Read the tensors of a file or of a run folder.

    Returns:
        The tensors by their names in the file, and its metadata (see
        `mnist_jax.runs.weights`), which is empty unless the names are our own.

    Raises:
        WeightsError: `path` does not exist or cannot be read.
    """
    try:
        if path.is_dir():
            return _read_run(path)
        with path.open("rb") as file:
            head = file.read(9)
        if not head:
            raise WeightsError(f"{path} is empty.")
        if head.startswith(_HDF5) or head.startswith(_ZIP) and _is_keras(path):
            from mnist_jax.pretrained import keras_file

            return keras_file.read(path), {}
        if head[8:] == b"{":
            tensors, metadata = weights.read(path)
            return tensors, metadata if weights.NETWORK in metadata else {}
        if head.startswith((_ZIP, _PICKLE)):
            from mnist_jax.pretrained import torch_file

            return torch_file.read(path), {}
    except OSError as error:
        raise WeightsError(
            f"{path} cannot be read: {error.strerror or error}."
        ) from error
    raise WeightsError(
        f"{path} is not a file of weights: neither Keras's (.h5, .keras) nor "
        "safetensors nor PyTorch's (.pth)."
    )


def _is_keras(path: Path) -> bool:
    try:
        with zipfile.ZipFile(path) as archive:
            return KERAS_WEIGHTS in archive.namelist()
    except Exception:  # of any kind: the reader of PyTorch's files says what is wrong
        return False


def _read_run(folder: Path) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Read the weights that a finished run reports."""
    run = RunFolder(folder)
    if not run.config.exists():
        raise WeightsError(
            f"{run.not_a_run()} Give a file of weights or the folder of a run, "
            "runs/NAME/DATE."
        )
    if not run.weights.exists():
        reason = "is not finished" if not run.results.exists() else "has no weights"
        raise WeightsError(
            f"{folder} {reason}: there is no {run.weights.name}. Repeat its command to "
            "finish it, or name another run."
        )
    return weights.read(run.weights)
