"""Keras's files of weights, in HDF5: the legacy layout, and that of Keras 3.

legacy    <layer>/<array>, in an order that attributes give; all of that below
          `model_weights/` where a whole model was saved
Keras 3   layers/<class>_<number>/vars/<number>, where newer versions note the
          layer's own name as an attribute; in a `.keras` file, a zip archive, this is
          the member `model.weights.h5`
"""

import contextlib
import zipfile
from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np

from mnist_jax.pretrained.readers import KERAS_WEIGHTS
from mnist_jax.runs.weights import WeightsError

# What layers call their variables, in the order in which Keras saves them.
_VARIABLES = ("kernel", "bias")


def read(path: Path) -> dict[str, np.ndarray]:
    """Read a file's arrays by name: `<layer>/kernel`, `<layer>/bias`.

    Args:
        path: an HDF5 file or a `.keras` archive.

    Raises:
        WeightsError: the file is damaged, incomplete, or holds layers other than
            convolutions and dense ones.
        OSError: it cannot be opened.
    """
    with path.open("rb"):  # h5py does not tell a missing file from a damaged one
        pass
    try:
        with _open(path) as file:
            layers = _read_layers(file)
    except (OSError, KeyError, ValueError, RuntimeError, zipfile.BadZipFile) as error:
        raise WeightsError(
            f"{path} is damaged, or no HDF5 file of weights: {error}."
        ) from error
    if not layers:
        raise WeightsError(f"{path} is an HDF5 file, but has no weights in it.")
    arrays = {}
    for layer, values in layers.items():
        if len(values) > len(_VARIABLES):
            raise WeightsError(
                f"{path}: the layer {layer} has {len(values)} arrays, where a "
                "convolution has a kernel and a bias: this is another network."
            )
        for variable, value in zip(_VARIABLES, values, strict=False):
            arrays[f"{layer}/{variable}"] = value
    return arrays


@contextlib.contextmanager
def _open(path: Path) -> Iterator[h5py.File]:
    """Open an HDF5 file, or the one inside a `.keras` archive."""
    if not zipfile.is_zipfile(path):
        with h5py.File(path, "r") as file:
            yield file
        return
    with (
        zipfile.ZipFile(path) as archive,
        archive.open(KERAS_WEIGHTS) as member,
        h5py.File(member, "r") as file,
    ):
        yield file


def _read_layers(file: h5py.File) -> dict[str, list[np.ndarray]]:
    found: dict[str, list[np.ndarray]] = {}
    root = _group(file, "model_weights") if "model_weights" in file else file
    if "layer_names" in root.attrs:
        for name in _texts(root, "layer_names"):
            group = _group(root, name)
            for path in _texts(group, "weight_names"):
                # A model within the model has the paths of its own layers.
                *_, layer = [name, *path.split("/")[:-1]]
                found.setdefault(layer, []).append(_array(group, path))
    elif "layers" in root:
        _walk(_group(root, "layers"), found)
    return found


def _walk(group: h5py.Group, found: dict[str, list[np.ndarray]]) -> None:
    """Find the layers, those of a model within the model too."""
    for name in map(str, group):
        layer = _group(group, name)
        if "vars" in layer and len(variables := _group(layer, "vars")):
            numbers = sorted(map(str, variables), key=int)
            # Folders have the name of a layer's class; its own may be noted inside.
            own = str(variables.attrs.get("name", name))
            found[own] = [_array(variables, number) for number in numbers]
        if "layers" in layer:
            _walk(_group(layer, "layers"), found)


def _group(parent: h5py.Group, name: str) -> h5py.Group:
    item = parent[name]
    if not isinstance(item, h5py.Group):
        raise ValueError(f"{item.name} is no group")
    return item


def _array(parent: h5py.Group, name: str) -> np.ndarray:
    item = parent[name]
    if not isinstance(item, h5py.Dataset):
        raise ValueError(f"{item.name} is no dataset")
    return np.asarray(item)


def _texts(group: h5py.Group, attribute: str) -> list[str]:
    values = group.attrs[attribute]
    return [
        value.decode() if isinstance(value, bytes) else str(value)
        for value in np.asarray(values).tolist()
    ]
