"""The IDX file format, as far as sets like MNIST use it: arrays of integers.

A file is two zero bytes, a byte for the element type (0x08: unsigned byte, 0x0C: 32-bit
integer), a byte for the number of dimensions, each dimension as a uint32, and then the
elements, last index fastest; numbers are big-endian. The format is described at http://yann.lecun.com/exdb/mnist/.
"""

import contextlib
import gzip
import io
import math
import mmap
import struct
import zlib
from pathlib import Path

import numpy as np
from jaxtyping import Integer

from mnist_jax import files
from mnist_jax.data.dataset import DataError

_GZIP, _LARGE = b"\x1f\x8b", 2**26
# By the first three bytes of a file.
_TYPES = {b"\0\0\x08": np.dtype(np.uint8), b"\0\0\x0c": np.dtype(">i4")}


def read_bytes(path: Path) -> bytes:
    """Return the content of a file, which may be gzipped, whatever its name.

    Raises:
        DataError: it cannot be read or decompressed, or holds far more than its size.
    """
    try:
        content = path.read_bytes()
        if not content.startswith(_GZIP):
            return content
        with gzip.GzipFile(fileobj=io.BytesIO(content)) as file:
            unpacked = file.read(100 * len(content) + 2**26)  # more than is allowed
        files.check_unpacked(len(unpacked), len(content))
        return unpacked
    except (EOFError, OSError, ValueError, zlib.error) as error:
        reason = getattr(error, "strerror", None) or error
        raise DataError(f"Cannot read {path}: {reason}.") from error


def parse(content: bytes | mmap.mmap, path: Path) -> Integer[np.ndarray, " ..."]:
    """Return the array in the content of a file, read-only and without a copy.

    Raises:
        DataError: it is damaged, or not an array of unsigned bytes or 32-bit integers.
    """
    dtype = _TYPES.get(content[:3])
    ndim = content[3] if dtype and len(content) > 3 else None
    if dtype is None or ndim is None or ndim > 8 or len(content) < 4 + 4 * ndim:
        raise DataError(f"{path} is not an IDX file of unsigned bytes or int32.")
    shape = struct.unpack_from(f">{ndim}I", content, offset=4)
    if len(content) != 4 + 4 * ndim + dtype.itemsize * math.prod(shape):
        raise DataError(
            f"{path} is cut off or has trailing bytes: its header announces the shape "
            f"{list(shape)}."
        )
    return np.frombuffer(content, dtype, offset=4 + 4 * ndim).reshape(shape)


def read(path: Path) -> Integer[np.ndarray, " ..."]:
    """Return the array in a file.

    That of a large file which is not compressed stays on the disk: its parts are read
    when they are used.

    Raises:
        DataError: as in `read_bytes` and `parse`.
    """
    if path.is_file() and path.stat().st_size > _LARGE:
        with contextlib.suppress(OSError), path.open("rb") as file:
            content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
            if content[:2] != _GZIP:
                return parse(content, path)
    return parse(read_bytes(path), path)
