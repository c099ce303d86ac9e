"""Read a file of weights in any supported format, which its content reveals."""

import json
import logging
import zipfile
from pathlib import Path

import numpy as np

from mnist_jax.config import to_stored
from mnist_jax.errors import UserError
from mnist_jax.runs import checkpoint, weights
from mnist_jax.runs.folder import RunFolder
from mnist_jax.runs.weights import WeightsError

LOGGER = logging.getLogger(__name__)
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
    except zipfile.BadZipFile:  # the reader of PyTorch's files says what is wrong
        return False


def _read_run(folder: Path) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Read the weights that a finished run reports, or the best ones so far."""
    run = RunFolder(folder)
    if not run.config.exists():
        raise WeightsError(
            f"{run.not_a_run()} Give a file of weights or the folder of a run, "
            "runs/NAME/DATE."
        )
    try:
        if run.weights.exists():
            return weights.read(run.weights)
        if run.results.exists():
            raise WeightsError(
                f"it is finished, but has no {run.weights.name}, as an older version "
                f"trained it. {run.checkpoints}/best may contain other weights than "
                f"those that {run.results.name} reports."
            )
        best = checkpoint.read_best(run.checkpoints)
        LOGGER.info(
            "%s is not finished: taking the weights of its best epoch so far.", folder
        )
        config = run.read_config()
        metadata = {
            weights.NETWORK: config.model.name,
            weights.CONFIG: json.dumps(to_stored(config)),
        }
    except (UserError, KeyError) as error:
        raise WeightsError(
            f"The weights of {folder} cannot be read: {error}"
        ) from error
    return weights.named(*best), metadata
