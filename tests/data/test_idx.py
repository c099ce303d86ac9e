import numpy as np
from hypothesis import given
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
