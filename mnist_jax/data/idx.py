"""The IDX file format, as far as MNIST uses it: arrays of unsigned bytes.

A file is two zero bytes, a byte for the element type (0x08: unsigned byte), a byte for
the number of dimensions, each dimension as a big-endian uint32, and then the elements,
last index fastest. The format is described at http://yann.lecun.com/exdb/mnist/.
"""

import gzip
import struct
import zlib
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from mnist_jax.data.dataset import DataError

_UNSIGNED_BYTES = b"\x00\x00\x08"


def read_bytes(path: Path) -> bytes:
    """Return the content of a file, which may be gzipped, whatever its name.

    Raises:
        DataError: it cannot be read or decompressed.
    """
    try:
        content = path.read_bytes()
        return gzip.decompress(content) if content.startswith(b"\x1f\x8b") else content
    except (EOFError, OSError, zlib.error) as error:
        reason = getattr(error, "strerror", None) or error
        raise DataError(f"Cannot read {path}: {reason}.") from error


def parse(content: bytes) -> UInt8[np.ndarray, " ..."]:
    """Return the array in a well-formed IDX file, read-only and without a copy."""
    ndim = content[3]
    shape = struct.unpack_from(f">{ndim}I", content, offset=4)
    return np.frombuffer(content, np.uint8, offset=4 + 4 * ndim).reshape(shape)


def encode(array: UInt8[np.ndarray, " ..."]) -> bytes:
    """Return the content of the IDX file that holds an array; the inverse of `parse`.

    Raises:
        ValueError: the array is not of unsigned bytes.
    """
    if array.dtype != np.uint8:
        raise ValueError(f"expected an array of uint8, got {array.dtype}")
    header = struct.pack(
        f">3sB{array.ndim}I", _UNSIGNED_BYTES, array.ndim, *array.shape
    )
    return header + array.tobytes()
