"""max_pool equals XLA's reduce_window, in values and in gradients."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import onednn_jax
import pytest
from laws import (
    TOLERANCES,
    assert_close,
    assert_same,
    draw,
    floats,
    plain_pool,
    quick_jit,
)

POOL = jax.jit(onednn_jax.max_pool, static_argnums=(1, 2, 3))


@pytest.mark.parametrize("size", [1, 2, 3])
@pytest.mark.parametrize(
    "shape", [(9, 28, 28, 32), (7, 14, 14, 64), (3, 7, 5, 3), (1, 3, 3, 1)]
)
def test_equals_reduce_window(shape: tuple[int, ...], size: int, dtype: str) -> None:
    """Bit for bit: nothing is computed, only chosen."""

    @quick_jit
    def run(images: jax.Array, gradient: jax.Array) -> Any:
        ours, back = jax.vjp(lambda x: onednn_jax.max_pool(x, size), images)
        theirs, plain_back = jax.vjp(lambda x: plain_pool(x, size), images)
        return ours, theirs, back(gradient)[0], plain_back(gradient)[0]

    count, height, width, channels = shape
    gradient = draw(1, count, height // size, width // size, channels, dtype=dtype)
    ours, theirs, back, plain_back = run(draw(0, *shape, dtype=dtype), gradient)
    assert_same(ours, theirs)
    np.testing.assert_array_equal(floats(back), floats(plain_back))


@pytest.mark.parametrize(
    "shape, size, stride, padding",
    [
        ((9, 28, 28, 32), 3, 2, "SAME"),
        ((5, 14, 14, 64), 3, 1, "SAME"),
        ((3, 8, 9, 45), 3, 2, "VALID"),
        ((3, 7, 5, 3), 2, 1, "VALID"),
        ((3, 7, 5, 3), 2, 2, "SAME"),
        ((3, 11, 8, 1), 2, 3, "SAME"),  # some places are in no window
        ((3, 11, 8, 1), 2, 5, "VALID"),
        ((2, 7, 5, 3), 5, 3, "SAME"),
        ((2, 3, 2, 5), 15, 4, "SAME"),  # larger than the image
    ],
)
def test_windows_that_overlap_or_are_padded(
    shape: tuple[int, ...], size: int, stride: int, padding: str, dtype: str
) -> None:
    """The gradient of a place in several windows is summed in float32."""
    images = draw(0, *shape, dtype=dtype)

    @quick_jit
    def run(images: jax.Array) -> Any:
        ours, back = jax.vjp(lambda x: POOL(x, size, stride, padding), images)
        singles = images.astype(jnp.float32)
        theirs, plain_back = jax.vjp(
            lambda x: plain_pool(x, size, stride, padding), singles
        )
        gradient = (ours - 1) * 2
        expected = theirs, *plain_back(gradient.astype(jnp.float32))
        return (ours, *back(gradient)), [x.astype(dtype) for x in expected]

    (ours, back), (theirs, plain_back) = run(images)
    assert_same(ours, theirs)
    assert_close(back, plain_back, TOLERANCES[dtype])


def test_first_of_equal_numbers_in_windows_that_overlap(dtype: str) -> None:
    images = jnp.ones((1, 5, 5, 1), dtype)
    out, back = jax.vjp(lambda x: POOL(x, 3, 2, "SAME"), images)
    expected = np.zeros((5, 5))
    # The first place inside each window, of which padding is not one.
    expected[np.ix_([0, 1, 3], [0, 1, 3])] = 1
    np.testing.assert_array_equal(floats(back(out)[0])[0, ..., 0], expected)


def test_largest_window(dtype: str) -> None:
    images = draw(0, 2, 15, 15, 3, dtype=dtype)
    ours, back = jax.vjp(lambda x: POOL(x, 15), images)
    expected = floats(images).max((1, 2), keepdims=True)
    np.testing.assert_array_equal(floats(ours), expected)
    assert ((floats(back(ours)[0]) != 0) == (floats(images) == expected)).all()


def test_all_are_negative(dtype: str) -> None:
    numbers = -1 - np.abs(floats(draw(0, 2, 5, 5, 3)))
    images = jnp.asarray(numbers.astype(jnp.dtype(dtype)))
    ours = floats(POOL(images, 2))
    np.testing.assert_array_equal(ours, floats(plain_pool(images, 2)))
    assert (ours < 0).all()


def test_first_of_equal_numbers_gets_the_gradient(dtype: str) -> None:
    numbers = np.random.default_rng(0).integers(0, 2, (4, 6, 6, 16))
    out, back = jax.vjp(lambda x: POOL(x, 2), jnp.asarray(numbers.astype(dtype)))
    (gradient,) = back(out * 0 + 1)
    windows = numbers.reshape(4, 3, 2, 3, 2, 16).transpose(0, 1, 3, 5, 2, 4)
    first = np.eye(4)[windows.reshape(4, 3, 3, 16, 4).argmax(-1)]
    expected = first.reshape(4, 3, 3, 16, 2, 2).transpose(0, 1, 4, 2, 5, 3)
    np.testing.assert_array_equal(floats(gradient), expected.reshape(4, 6, 6, 16))


@pytest.mark.parametrize("channels", [1, 6, 32])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_no_nan_is_lost(value: float, channels: int, dtype: str) -> None:
    """oneDNN's own max pool passes over a NaN, and makes -3e38 of nothing but NaN."""
    places: list[Any] = [(0, y, x, 0) for y in range(2) for x in range(2)]
    for place in (*places, ...):  # one, or all
        images = draw(0, 1, 2, 2, channels, dtype=dtype, put={place: value})
        expected = floats(images).max((1, 2), keepdims=True)
        for window in ((2,), (3, 2, "SAME")):
            np.testing.assert_array_equal(floats(POOL(images, *window)), expected)


def test_nan_gets_the_gradient(dtype: str) -> None:
    images = draw(0, 1, 2, 2, 1, dtype=dtype, put={(0, 1, 0, 0): np.nan})
    out, back = jax.vjp(lambda x: POOL(x, 2), images)
    assert jnp.isnan(out).all()
    gradient = back(draw(1, 1, 1, 1, 1, dtype=dtype, put={...: 1}))[0]
    assert gradient.ravel().tolist() == [0, 0, 1, 0]


def test_empty_batch(dtype: str) -> None:
    images = jnp.zeros((0, 6, 6, 3), dtype)
    out, back = jax.vjp(jax.jit(lambda x: onednn_jax.max_pool(x, 2)), images)
    assert out.shape == (0, 3, 3, 3) and back(out)[0].shape == images.shape


@pytest.mark.parametrize(
    "error, shape, dtype, window, said",
    [
        (TypeError, (2, 6, 6, 3), "float16", (2,), "float16"),
        (TypeError, (2, 6, 6, 3), "int32", (2,), "int32"),
        (ValueError, (6, 6, 3), "float32", (2,), "(6, 6, 3)"),
        (ValueError, (2, 6, 5, 3), "float32", (6,), "6 x 6"),
        (ValueError, (2, 6, 6, 3), "float32", (0,), "0 x 0"),
        (ValueError, (2, 6, 6, 3), "float32", (-1,), "-1 x -1"),
        (ValueError, (2, 20, 20, 3), "float32", (16,), "16 x 16"),
        (ValueError, (2, 20, 20, 3), "float32", (16, 1, "SAME"), "16 x 16"),
        (ValueError, (2, 6, 6, 0), "float32", (2,), "6, 0)"),
        (ValueError, (2, 6, 6, 3), "float32", (2, 0), "got 0"),
        (ValueError, (2, 6, 6, 3), "float32", (2, 2, "FULL"), "FULL"),
    ],
)
def test_wrong_arguments(
    error: type[Exception], shape: tuple[int, ...], dtype: str, window: Any, said: str
) -> None:
    with pytest.raises(error) as raised:
        onednn_jax.max_pool(jnp.zeros(shape, dtype), *window)
    assert said in str(raised.value)
