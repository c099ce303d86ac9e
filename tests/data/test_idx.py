import gzip
import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from mnist_jax.data import idx

ARRAYS = hnp.arrays(np.uint8, hnp.array_shapes(min_dims=0, max_dims=4, min_side=0))


def test_the_layout_is_the_published_one():
    content = bytes.fromhex("00000802 00000002 00000003 010203040506")
    np.testing.assert_array_equal(idx.parse(content), [[1, 2, 3], [4, 5, 6]])


@given(ARRAYS)
def test_parse_undoes_encode(array):
    parsed = idx.parse(idx.encode(array))
    assert parsed.dtype == np.uint8
    assert parsed.shape == array.shape
    np.testing.assert_array_equal(parsed, array)


@given(ARRAYS)
def test_encode_keeps_what_is_not_contiguous(array):
    np.testing.assert_array_equal(idx.parse(idx.encode(array.T)), array.T)


@given(
    st.binary(max_size=40)
    | st.binary(max_size=40).map(lambda rest: b"\0\0\x08" + rest)
    | st.lists(st.sampled_from([0, 1, 2**31, 2**32 - 1]), max_size=255).map(
        lambda shape: struct.pack(f">3sB{len(shape)}I", b"\0\0\x08", len(shape), *shape)
    )
)
def test_whatever_is_parsed_is_encoded_back_to_the_same_bytes(content):
    try:
        array = idx.parse(content)
    except idx.IdxError:
        return
    assert idx.encode(array) == content


@given(ARRAYS, st.data())
def test_a_shorter_content_is_cut_off(array, data):
    content = idx.encode(array)
    cut = data.draw(st.integers(0, len(content) - 1))
    with pytest.raises(idx.IdxError, match="is empty" if cut == 0 else "is cut off"):
        idx.parse(content[:cut])


@given(ARRAYS, st.binary(min_size=1, max_size=5))
def test_a_longer_content_has_trailing_bytes(array, extra):
    with pytest.raises(idx.IdxError, match="has trailing bytes"):
        idx.parse(idx.encode(array) + extra)


@pytest.mark.parametrize(
    "start", [b"<htm", b"\0\0\x0d\x01", b"\x01\0\x08\x01", b"PK\x03\x04"]
)
def test_another_start_is_named(start):
    with pytest.raises(idx.IdxError, match=f"starts with the bytes {start.hex(' ')}"):
        idx.parse(start + bytes(100))


@pytest.mark.parametrize("dtype", [np.int8, np.int64, np.float32, np.bool_])
def test_other_elements_are_not_encoded(dtype):
    with pytest.raises(ValueError, match=f"got {np.dtype(dtype)}"):
        idx.encode(np.zeros(3, dtype))


@pytest.mark.parametrize("name", ["labels", "labels.gz"])
@pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["plain", "packed"])
def test_a_file_is_read_by_its_content_not_by_its_name(tmp_path, name, pack):
    array = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
    (tmp_path / name).write_bytes(pack(idx.encode(array)))
    np.testing.assert_array_equal(idx.read(tmp_path / name), array)


def test_a_damaged_gzip_file_is_refused_wherever_the_damage_is(tmp_path):
    array = np.arange(100, dtype=np.uint8)
    packed = gzip.compress(idx.encode(array), mtime=0)
    path = tmp_path / "file.gz"
    for position in range(len(packed)):
        path.write_bytes(packed[:position])
        with pytest.raises(idx.IdxError):
            idx.read(path)
        flipped = bytearray(packed)
        flipped[position] ^= 0x21
        path.write_bytes(flipped)
        try:
            # Some bytes of the gzip header mean nothing, the time for example.
            np.testing.assert_array_equal(idx.read(path), array)
        except idx.IdxError:
            pass


def test_a_file_that_cannot_be_read_is_an_os_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        idx.read(tmp_path / "missing")
