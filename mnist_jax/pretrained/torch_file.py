"""PyTorch's files of weights, read without PyTorch and without executing their code.

Such a file is a pickle, which can call any function. Here it may call only those that
make a tensor; any other is an error. There are two layouts: a zip archive (since
PyTorch 1.6), and a sequence of pickles, which torchvision's VGG16 has to this day.
"""

import io
import math
import pickle
import struct
import zipfile
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from mnist_jax import files
from mnist_jax.runs.weights import WeightsError

_MAGIC = 0x1950A86A20F9469CFC6C
_PROTOCOL = 1001
_DTYPES = {
    "FloatStorage": np.dtype("<f4"),
    "DoubleStorage": np.dtype("<f8"),
    "HalfStorage": np.dtype("<f2"),
    "LongStorage": np.dtype("<i8"),
    "IntStorage": np.dtype("<i4"),
}


class _Storage(NamedTuple):
    key: str
    dtype: np.dtype[Any]
    numel: int


class _Tensor(NamedTuple):
    """A view of a storage; offset and strides count numbers."""

    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


def read(path: Path) -> dict[str, np.ndarray]:
    """Read the tensors of a state dict by their names.

    Raises:
        WeightsError: the file is damaged, contains anything else than named tensors, or
            cannot be read without executing its code.
        OSError: the file cannot be read.
    """
    with path.open("rb") as file:
        try:
            read_layout = _read_zip if zipfile.is_zipfile(file) else _read_pickles
            file.seek(0)
            tensors, storages = read_layout(file)
            size = sum(math.prod(x.shape) for x in tensors.values()) * 8
            files.check_unpacked(size, path.stat().st_size)
            return {name: _view(tensor, storages) for name, tensor in tensors.items()}
        except WeightsError as error:
            raise WeightsError(f"{path}: {error}") from error
        except Exception as error:  # whatever a damaged zip file or pickle may raise
            raise WeightsError(
                f"{path} is damaged, or PyTorch did not write it: {error}."
            ) from error


def _read_zip(file: BinaryIO) -> tuple[dict[str, _Tensor], dict[str, bytes]]:
    with zipfile.ZipFile(file) as archive:
        size = sum(info.file_size for info in archive.infolist())
        files.check_unpacked(size, file.seek(0, io.SEEK_END))
        pickles = [n for n in archive.namelist() if n.split("/")[1:] == ["data.pkl"]]
        if len(pickles) != 1:
            raise WeightsError("is a zip file, and PyTorch did not write it.")
        folder = pickles[0].split("/")[0]
        tensors = _state_dict(_Unpickler(io.BytesIO(archive.read(pickles[0]))).load())
        keys = {tensor.storage.key for tensor in tensors.values()}
        return tensors, {key: archive.read(f"{folder}/data/{key}") for key in keys}


def _read_pickles(file: BinaryIO) -> tuple[dict[str, _Tensor], dict[str, bytes]]:
    magic, protocol, _ = (_Unpickler(file).load() for _ in range(3))
    if (magic, protocol) != (_MAGIC, _PROTOCOL):
        raise WeightsError("is not a file that PyTorch wrote.")
    tensors = _state_dict(_Unpickler(file).load())
    storages = {tensor.storage.key: tensor.storage for tensor in tensors.values()}
    found = {}
    for key in _Unpickler(file).load():
        (numel,) = struct.unpack("<q", file.read(8))
        found[key] = file.read(numel * storages[key].dtype.itemsize)
    return tensors, found


def _state_dict(value: Any) -> dict[str, _Tensor]:
    for key in ("state_dict", "model_state_dict", "model"):
        # A checkpoint of a training run, with other entries beside the weights.
        if isinstance(value, dict) and isinstance(value.get(key), dict):
            value = value[key]
    if not isinstance(value, dict) or not all(
        isinstance(name, str)
        and isinstance(tensor, _Tensor)
        and isinstance(tensor.storage, _Storage)
        for name, tensor in value.items()
    ):
        raise WeightsError(
            "contains something other than named tensors. Save the network's "
            "state_dict(), not the network."
        )
    return value


def _view(tensor: _Tensor, storages: dict[str, bytes]) -> np.ndarray:
    """Return a tensor's numbers, after checking that its storage has them all."""
    storage, offset, shape, strides = tensor
    numbers = np.frombuffer(storages[storage.key], storage.dtype)
    last = offset + sum((n - 1) * step for n, step in zip(shape, strides, strict=True))
    bad = min((offset, *shape, *strides)) < 0
    if bad or len(numbers) != storage.numel or last >= max(len(numbers), 1):
        raise WeightsError("is damaged: a tensor is larger than the numbers for it.")
    strides = [stride * storage.dtype.itemsize for stride in strides]
    return np.lib.stride_tricks.as_strided(numbers[offset:], shape, strides).copy()


class _OrderedDict(dict[Any, Any]):
    """An OrderedDict that ignores attributes, such as `_metadata` of a state dict."""

    def __setstate__(self, attributes: Any) -> None:
        pass


class _Unpickler(pickle._Unpickler):
    """Unpickles what a state dict consists of, and rejects everything else.

    The class in C would allocate gigabytes for a single high number in its memo.
    """

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("collections", "OrderedDict"):
            return _OrderedDict
        if module == "torch" and name in _DTYPES:
            return _DTYPES[name]
        if module == "torch._utils":
            if name in ("_rebuild_tensor", "_rebuild_tensor_v2"):
                return lambda storage, offset, shape, strides, *_: _Tensor(
                    storage, int(offset), tuple(shape), tuple(strides)
                )
            if name == "_rebuild_parameter":
                return lambda tensor, *_: tensor
        raise WeightsError(
            f"it would call {module}.{name}, which weights do not need and which could "
            "execute any code. Save the network's state_dict() again, or use a "
            ".safetensors file."
        )

    def persistent_load(self, pid: Any) -> _Storage:
        kind, dtype, key, _, numel, *view = pid
        if kind != "storage" or not isinstance(dtype, np.dtype) or any(view):
            raise WeightsError(f"is damaged: {kind!r} instead of a storage.")
        return _Storage(key, dtype, numel)
