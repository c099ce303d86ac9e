"""Keras's files of weights, in HDF5: the legacy layout and that of Keras 3.

legacy    .../<layer>/<array>, below `model_weights` if a whole model was saved
Keras 3   .../layers/<layer>/vars/<number>, where newer versions store the layer's own
          name as an attribute; a `.keras` file is a zip archive that contains this as
          `model.weights.h5`
"""

import contextlib
import re
import zipfile
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from mnist_jax.pretrained.readers import KERAS_WEIGHTS
from mnist_jax.runs.weights import WeightsError

_KERAS_3 = re.compile(r"(?:.*/)?layers/([^/]+)/vars/\d+")


def read(path: Path) -> dict[str, np.ndarray]:
    """Read a file's arrays by name: `<layer>/kernel`, `<layer>/bias`.

    Args:
        path: an HDF5 file or a `.keras` archive.

    Raises:
        WeightsError: the file is damaged or empty, or has layers other than
            convolutions and dense ones.
    """
    try:
        with contextlib.ExitStack() as stack:
            source: Any = path
            if zipfile.is_zipfile(path):
                archive = stack.enter_context(zipfile.ZipFile(path))
                source = stack.enter_context(archive.open(KERAS_WEIGHTS))
            layers = _read_layers(stack.enter_context(h5py.File(source, "r")))
    except (OSError, KeyError, ValueError, RuntimeError, zipfile.BadZipFile) as error:
        raise WeightsError(
            f"{path} is damaged, or not an HDF5 file of weights: {error}."
        ) from error
    if not layers:
        raise WeightsError(f"{path} is an HDF5 file without weights.")
    arrays = {}
    for layer, values in layers.items():
        by_name = {"kernel" if x.ndim > 1 else "bias": x for x in values}
        if len(by_name) < len(values):
            raise WeightsError(
                f"{path}: the layer {layer} has {len(values)} arrays, where a "
                "convolution has a kernel and a bias: this is another network."
            )
        arrays |= {f"{layer}/{name}": x for name, x in by_name.items()}
    return arrays


def _read_layers(file: h5py.File) -> dict[str, list[np.ndarray]]:
    found: dict[str, list[np.ndarray]] = {}
    is_keras_3 = "layers" in file

    def visit(path: str, item: Any) -> None:
        if not isinstance(item, h5py.Dataset) or path.startswith("optimizer_weights/"):
            return
        if not is_keras_3:
            layer = f"/{path}".split("/")[-2]
        elif match := _KERAS_3.fullmatch(path):
            layer = str(item.parent.attrs.get("name", match[1]))
        else:
            return  # the optimizer's, or a random generator's
        found.setdefault(layer, []).append(np.asarray(item))

    file.visititems(visit)
    return found
