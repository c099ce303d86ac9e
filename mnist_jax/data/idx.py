"""The IDX file format, as far as MNIST uses it: arrays of unsigned bytes.

A file is two zero bytes, a byte for the element type (0x08: unsigned byte), a byte for
the number of dimensions, each dimension as a big-endian uint32, and then the elements,
last index fastest. It is described at http://yann.lecun.com/exdb/mnist/.
"""

import gzip
import hashlib
import math
import os
import struct
import zlib
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

_UNSIGNED_BYTES = b"\x00\x00\x08"
_GZIP = b"\x1f\x8b"


class IdxError(ValueError):
    """Content that is not an IDX array of unsigned bytes; the message says why."""


def parse(content: bytes) -> UInt8[np.ndarray, " ..."]:
    """Return the array that an IDX file holds, read-only and without a copy.

    Strict: what `parse` accepts, `encode` gives back byte for byte.

    Raises:
        IdxError: not IDX, not of unsigned bytes, or more or fewer bytes than the header
            announces.
    """
    if not content:
        raise IdxError("is empty")
    if content[:3] != _UNSIGNED_BYTES[: len(content)]:
        raise IdxError(
            f"starts with the bytes {content[:4].hex(' ')}, where an IDX file of "
            f"unsigned bytes starts with {_UNSIGNED_BYTES.hex(' ')}"
        )
    if len(content) < 4 or len(content) < 4 + 4 * content[3]:
        raise IdxError(f"is cut off within its header, after {len(content)} bytes")
    ndim = content[3]
    shape = struct.unpack_from(f">{ndim}I", content, offset=4)
    start = 4 + 4 * ndim
    # Python's integers: a damaged header may announce more than fits in 64 bits.
    expected = start + math.prod(shape)
    if len(content) != expected:
        problem = "is cut off" if len(content) < expected else "has trailing bytes"
        raise IdxError(
            f"{problem}: {len(content):,} bytes, where its header announces the "
            f"shape {list(shape)} and so {expected:,} bytes"
        )
    try:
        return np.frombuffer(content, dtype=np.uint8, offset=start).reshape(shape)
    except ValueError as error:  # 65 dimensions or more, or only zero-sized ones.
        raise IdxError(f"has an impossible shape: {error}") from error


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


def checksum(array: UInt8[np.ndarray, " ..."]) -> str:
    """Return the sha256, in hex, of the unpacked IDX file that holds an array."""
    return hashlib.sha256(encode(array)).hexdigest()


def read(path: str | os.PathLike[str]) -> UInt8[np.ndarray, " ..."]:
    """Read an IDX file, compressed with gzip or not.

    The content decides which, not the name: browsers unpack a download and leave the
    `.gz` at the end of its name.

    Raises:
        IdxError: as `parse`, or the gzip stream is damaged.
        OSError: the file cannot be read.
    """
    content = Path(path).read_bytes()
    if content.startswith(_GZIP):
        try:
            content = gzip.decompress(content)
        except (gzip.BadGzipFile, EOFError, zlib.error) as error:
            raise IdxError(f"is a damaged gzip file ({error})") from error
    return parse(content)
