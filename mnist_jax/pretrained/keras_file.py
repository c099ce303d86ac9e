"""Keras's files of weights, in HDF5: the legacy layout and that of Keras 3.

legacy    <layer>/.../<array>, below `model_weights` if a whole model was saved. The
          array is called `kernel:0`, or `<layer>_W:0` by versions before 2.
Keras 3   .../layers/<class>/vars/<number>, with the layer's own name as an attribute; a
          `.keras` file is a zip archive that contains this as `model.weights.h5`
"""

import contextlib
import re
import zipfile
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from mnist_jax import files
from mnist_jax.pretrained.readers import KERAS_WEIGHTS
from mnist_jax.runs.weights import WeightsError

# Keras's names of an array by ours. `running_std`, of versions before 2, is a variance.
_VARIABLES = {
    "depthwise/kernel": "depthwise_kernel",
    "pointwise/kernel": "pointwise_kernel",
    "kernel": "kernel|W",
    "bias": "bias|b|beta",
    "scale": "gamma",
    "mean": "moving_mean|running_mean",
    "var": "moving_variance|running_std",
}
_KERAS_3 = re.compile(r"(?:.*/)?layers/(.+?)(?:_\d+)?/vars/(\d+)")
# The arrays of a layer by its class, in Keras's order.
_CLASSES = {
    "conv2d": ("kernel", "bias"),
    "dense": ("kernel", "bias"),
    "separable_conv2d": ("depthwise/kernel", "pointwise/kernel", "bias"),
    "batch_normalization": ("scale", "bias", "mean", "var"),
}


def read(path: Path) -> dict[str, np.ndarray]:
    """Read a file's arrays by name: `<layer>/kernel`, `<layer>/mean`.

    The two kernels of a separable convolution are `<layer>/depthwise/kernel` [height,
    width, 1, channels] and `<layer>/pointwise/kernel`. Arrays of layers that are not
    known keep their names.

    Args:
        path: an HDF5 file or a `.keras` archive.

    Raises:
        WeightsError: the file is damaged or empty, or does not store the layers' names.
    """
    try:
        with contextlib.ExitStack() as stack:
            source: Any = path
            if zipfile.is_zipfile(path):
                archive = stack.enter_context(zipfile.ZipFile(path))
                source = stack.enter_context(archive.open(KERAS_WEIGHTS))
            file = stack.enter_context(h5py.File(source, "r"))
            found = _read_keras_3(file) if "layers" in file else _read_legacy(file)
            size = sum(item.nbytes for item in found.values())
            files.check_unpacked(size, file.id.get_filesize())
            arrays = {name: np.asarray(item) for name, item in found.items()}
    except WeightsError as error:
        raise WeightsError(f"{path} {error}") from None
    except Exception as error:  # h5py and zipfile raise a dozen kinds
        raise WeightsError(
            f"{path} is damaged, or not an HDF5 file of weights: {error}."
        ) from error
    if not arrays:
        raise WeightsError(f"{path} is an HDF5 file without weights.")
    return {
        name: x.swapaxes(2, 3) if name.endswith("/depthwise/kernel") else x
        for name, x in arrays.items()
    }


def _read_legacy(file: h5py.File) -> dict[str, Any]:
    root: Any = file.get("model_weights", file)
    arrays = {}
    for layer in _listed(root, "layer_names"):
        paths = _listed(root[layer], "weight_names")
        folders = [path.rpartition("/")[0] for path in paths]
        for path, folder in zip(paths, folders, strict=True):
            # A layer that is itself a model has its layers' arrays in their folders.
            nested = len(set(folders)) > 1
            own_name = folder.rpartition("/")[2] if nested else layer.replace("/", "_")
            variable = _variable(path.rpartition("/")[2])
            arrays[f"{own_name}/{variable}"] = root[layer][path]
    return arrays


def _variable(name: str) -> str:
    """Return our name for `kernel:0` or `block1_conv1_W_1:0`, or the name itself."""
    for ours, theirs in _VARIABLES.items():
        if re.fullmatch(rf"(.*[/_])?({theirs})(_\d+)?(:0)?", name):
            return ours
    return name


def _listed(group: h5py.Group, key: str) -> list[str]:
    """Return a list among the attributes, long ones of which Keras splits."""
    parts = [value for name, value in group.attrs.items() if name.startswith(key)]
    return [x if isinstance(x, str) else x.decode() for part in parts for x in part]


def _read_keras_3(file: h5py.File) -> dict[str, Any]:
    arrays = {}

    def visit(path: str, item: Any) -> None:
        match = _KERAS_3.fullmatch(path)
        if not match:  # a group, or a variable of the optimizer's
            return
        if "name" not in item.parent.attrs:
            raise WeightsError(
                "was written by an early version of Keras 3, which does not store the "
                "names of layers. Save it again with a newer one, or as FILE.h5."
            )
        known, number = _CLASSES.get(match[1], ()), match[2]
        if match[1] == "batch_normalization" and len(item.parent) == 3:
            known = known[1:]  # without a scale, as in Inception v3
        if int(number) < len(known):
            number = known[int(number)]
        arrays[f"{item.parent.attrs['name']}/{number}"] = item

    file.visititems(visit)
    return arrays
