"""Files in the IDX format, written by the rules that it is published with."""

import struct


def encode(array) -> bytes:
    """The content of the IDX file that holds an array of unsigned bytes."""
    header = struct.pack(f">3sB{array.ndim}I", b"\0\0\x08", array.ndim, *array.shape)
    return header + array.tobytes()
