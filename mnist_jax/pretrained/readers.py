"""Which reader a file of weights needs: decided by its content, not by its name.

Our own files are those of `mnist_jax.runs.weights`.
"""

import logging
from pathlib import Path

import numpy as np

from mnist_jax.errors import UserError
from mnist_jax.runs import checkpoint, weights
from mnist_jax.runs.folder import RunFolder
from mnist_jax.runs.weights import WeightsError

LOGGER = logging.getLogger(__name__)
_HDF5 = b"\x89HDF\r\n\x1a\n"
_ZIP = b"PK\x03\x04"
_PICKLE = b"\x80"  # of protocol 2 or later


def read(path: Path) -> tuple[dict[str, np.ndarray], str | None]:
    """Read the tensors of a file or of a run folder.

    Returns:
        The tensors by the names that they have there; and, if those are ours, the name
        of the network.

    Raises:
        WeightsError: there is nothing there, or nothing that can be read.
    """
    try:
        if path.is_dir():
            return _read_run(path)
        with path.open("rb") as file:
            head = file.read(9)
        if not head:
            raise WeightsError(f"{path} is empty.")
        if head.startswith(_HDF5):
            from mnist_jax.pretrained import keras_file

            return keras_file.read(path), None
        if head[8:] == b"{":
            tensors, metadata = weights.read(path)
            return tensors, metadata.get(weights.NETWORK)
        if head.startswith((_ZIP, _PICKLE)):
            from mnist_jax.pretrained import torch_file

            return torch_file.read(path), None
    except OSError as error:
        raise WeightsError(
            f"{path} cannot be read: {error.strerror or error}. Name a file of weights "
            "or a run folder with --config.model.pretrained, or say none."
        ) from error
    raise WeightsError(
        f"{path} is no file of weights: neither HDF5 (.h5) nor safetensors nor one of "
        "PyTorch's (.pth)."
    )


def _read_run(folder: Path) -> tuple[dict[str, np.ndarray], str]:
    """Read the weights that a finished run reports, or the best ones so far."""
    run = RunFolder(folder)
    if not run.config.exists():
        raise WeightsError(
            f"{folder} is not a run folder: it has no {run.config.name}. Give a file "
            "of weights or the folder of a run, runs/NAME/DATE."
        )
    try:
        if run.weights.exists():
            tensors, metadata = weights.read(run.weights)
            return tensors, metadata[weights.NETWORK]
        if run.results.exists():
            raise WeightsError(
                f"it is finished, but has no {run.weights.name}: an older version "
                f"trained it. {run.checkpoints}/best may hold other weights than "
                f"{run.results.name} reports."
            )
        best = checkpoint.read_best(run.checkpoints)
        LOGGER.info("%s is not finished: its best epoch so far is taken.", folder)
        network = run.read_config().model.name
    except (UserError, KeyError) as error:
        raise WeightsError(f"{folder} cannot be begun from: {error}") from error
    return weights.named(*best), network
