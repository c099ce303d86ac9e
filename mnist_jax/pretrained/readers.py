"""Which reader a file of weights needs: decided by its content, not by its name.

Our own files are safetensors with a note of the network in their metadata, the names
ours, so that nothing has to be converted.
"""

from pathlib import Path

import numpy as np
import safetensors
import safetensors.numpy

from mnist_jax import files
from mnist_jax.errors import UserError
from mnist_jax.pretrained.errors import WeightsError

_HDF5 = b"\x89HDF\r\n\x1a\n"
_ZIP = b"PK\x03\x04"
_PICKLE = b"\x80"  # of protocol 2 or later
_NETWORK = "mnist_jax_network"


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
            return _read_safetensors(path)
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


def write(path: Path, tensors: dict[str, np.ndarray], *, network: str) -> None:
    """Write tensors by our names in our format, whole or not at all."""
    content = safetensors.numpy.save(
        {name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()},
        metadata={_NETWORK: network},
    )
    with files.atomic_writer(path) as file:
        file.write(content)


def _read_safetensors(path: Path) -> tuple[dict[str, np.ndarray], str | None]:
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}
    except safetensors.SafetensorError as error:
        raise WeightsError(
            f"{path} is damaged, or no safetensors file: {error}."
        ) from error
    except TypeError as error:  # what NumPy has no dtype for, such as bfloat16
        raise WeightsError(
            f"{path} has numbers of a kind that NumPy does not know: {error}. Save "
            "the weights as float32."
        ) from error
    return tensors, metadata.get(_NETWORK)


def _read_run(folder: Path) -> tuple[dict[str, np.ndarray], str]:
    from mnist_jax.runs import checkpoint
    from mnist_jax.runs.folder import RunFolder, flatten

    run = RunFolder(folder)
    if not run.config.exists():
        raise WeightsError(
            f"{folder} is no run folder: it has no {run.config.name}. Give a file of "
            "weights or the folder of a run, runs/NAME/DATE."
        )
    try:
        weights = checkpoint.read_best(run.checkpoints)
        network = flatten(run.read_config())["model.name"]
    except (UserError, KeyError) as error:
        raise WeightsError(f"{folder} cannot be begun from: {error}") from error
    tensors = {
        f"{layer}/{name}": np.asarray(value)
        for tree in weights
        for layer, variables in tree.items()
        for name, value in variables.items()
    }
    return tensors, network
