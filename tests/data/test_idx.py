import gzip
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis.extra import numpy as hnp

from mnist_jax.data import DataError, idx
from tests.support.idx_files import encode


@pytest.mark.parametrize("large", [2**26, 0])  # the file is read, or mapped
def test_the_layout_is_the_published_one(tmp_path, monkeypatch, large):
    monkeypatch.setattr(idx, "_LARGE", large)
    content = bytes.fromhex("00000802 00000002 00000003 010203040506")
    for written in (content, gzip.compress(content)):
        (tmp_path / "x").write_bytes(written)
        np.testing.assert_array_equal(idx.read(tmp_path / "x"), [[1, 2, 3], [4, 5, 6]])


@given(hnp.arrays(np.uint8, hnp.array_shapes(max_dims=4, min_side=0)))
def test_any_array_is_read(array):
    np.testing.assert_array_equal(idx.parse(encode(array), Path("x")), array)


@pytest.mark.parametrize(
    "content",
    [
        gzip.compress(b"\0\0\x08\x01\x04\0\0\0" + bytes(2**26)),  # 2**26 zeros
        b"\0\0\x08\x03" + b"\xff" * 12,
        b"\0\0\x08\xff" + bytes(4 * 255),
    ],
)
def test_a_small_file_that_announces_much_is_refused(tmp_path, content):
    (tmp_path / "x").write_bytes(content)
    with pytest.raises(DataError, match="announces|not an IDX file"):
        idx.read(tmp_path / "x")
