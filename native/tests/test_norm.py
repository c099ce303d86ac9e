"""batch_norm and scale_shift equal the same formulas, in values and in gradients."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import onednn_jax
import pytest
from laws import TOLERANCES, assert_close, draw, floats, plain_norm, quick_jit

SHAPES = [
    (9, 28, 28, 32),
    (5, 14, 14, 128),
    (3, 7, 5, 3),
    (7, 1, 1, 130),
    (86, 64),
    (1, 5, 5, 1),
]


@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize("shape", SHAPES)
def test_shapes(shape: tuple[int, ...], relu: bool, dtype: str) -> None:
    """The gradient is also that through the mean and the variance."""
    x = (draw(0, *shape) * 2 + 1).astype(dtype)
    channels = 1 + 0.3 * draw(1, shape[-1]), draw(2, shape[-1])
    gradient = draw(3, *shape, dtype=dtype)

    def ours(x: jax.Array, *channels: jax.Array) -> Any:
        y, *moments = onednn_jax.batch_norm(x, *channels, epsilon=1e-3, relu=relu)
        return y, moments

    def theirs(*arrays: Any) -> Any:
        y, *moments = plain_norm(*arrays)
        return y, moments

    @quick_jit
    def run(x: jax.Array, channels: Any, gradient: jax.Array) -> Any:
        y, backward, moments = jax.vjp(ours, x, *channels, has_aux=True)
        single = x.astype(jnp.float32)
        expected, plain_backward, plain_moments = jax.vjp(
            theirs, single, *channels, has_aux=True
        )
        arriving = gradient.astype(jnp.float32)
        if relu:
            expected, arriving = jax.nn.relu(expected), jnp.where(y > 0, arriving, 0)
        return (
            (y, *backward(gradient)),
            (expected, *plain_backward(arriving)),
            (moments, plain_moments),
        )

    got, expected, (moments, plain_moments) = run(x, channels, gradient)
    assert [a.dtype for a in got] == [dtype, dtype, "float32", "float32"]
    assert_close(got, expected, TOLERANCES[dtype])
    assert_close(moments, plain_moments, 2e-6)


@pytest.mark.parametrize("relu", [False, True])
def test_known_statistics(relu: bool, dtype: str) -> None:
    x, factor, shift = draw(0, 5, 7, 6, 20, dtype=dtype), draw(1, 20), draw(2, 20)
    gradient = draw(3, *x.shape, dtype=dtype)

    def plain(x: jax.Array, factor: jax.Array, shift: jax.Array) -> jax.Array:
        places = None, None, None
        y = x.astype(jnp.float32) * factor[places] + shift[places]
        return (jax.nn.relu(y) if relu else y).astype(dtype)

    def ours(x: jax.Array, factor: jax.Array, shift: jax.Array) -> jax.Array:
        return onednn_jax.scale_shift(x, factor, shift, relu=relu)

    @quick_jit
    def run(*arrays: Any) -> Any:
        y, backward = jax.vjp(ours, *arrays)
        expected, plain_backward = jax.vjp(plain, *arrays)
        return (y, *backward(gradient)), (expected, *plain_backward(gradient))

    got, expected = run(x, factor, shift)
    assert_close(got, expected, TOLERANCES[dtype])


@pytest.mark.parametrize("mean", [0, 30, 3000])
def test_variance_is_right_far_from_zero(mean: float) -> None:
    """E[x^2] - E[x]^2 in float32 would lose all digits."""
    x = jnp.asarray(floats(draw(0, 64, 14, 14, 3)) * [1, 0.1, 3] + mean, jnp.float32)
    _, *moments = onednn_jax.batch_norm(x, jnp.ones(3), jnp.zeros(3), epsilon=1e-3)
    exact = np.asarray(x, np.float64).reshape(-1, 3)
    assert_close(moments, [exact.mean(0), exact.var(0)], 3e-7)


def test_no_nan_is_lost(dtype: str) -> None:
    """Not in the statistics, the result, nor the gradients, with a ReLU."""
    x = draw(0, 2, 5, 5, 3, dtype=dtype, put={(1, 2, 2, 1): np.nan})
    channels = jnp.ones(3), jnp.zeros(3)

    def run(*arrays: jax.Array) -> Any:
        y, *moments = onednn_jax.batch_norm(*arrays, epsilon=1e-3, relu=True)
        return y, moments

    y, backward, moments = jax.vjp(run, x, *channels, has_aux=True)
    for array in (y, *moments):
        found = np.isnan(floats(array))
        assert found[..., 1].all() and not found[..., [0, 2]].any()
    y, backward = jax.vjp(
        lambda *a: onednn_jax.scale_shift(*a, relu=True), x, *channels
    )
    assert np.argwhere(np.isnan(floats(y))).tolist() == [[1, 2, 2, 1]]
    bad = draw(0, *x.shape, dtype=dtype, put={(1, 0, 0, 2): np.nan})
    _, backward = jax.vjp(
        lambda *a: onednn_jax.batch_norm(*a, epsilon=1e-3)[0],
        draw(0, *x.shape, dtype=dtype),
        *channels,
    )
    for array in backward(bad):
        found = np.isnan(floats(array))
        assert found[..., 2].all() and not found[..., :2].any()


def test_nan_of_any_bits_stays_one() -> None:
    """Rounded like a number, a NaN may become 0 in bfloat16."""
    bits = np.array([0x7F80, 0x7F81, 0x7FFF, 0xFF81, 0xFFFF, 0xFF80], np.uint16)
    x = jnp.asarray(bits.view(jnp.bfloat16))[:, None]
    y = floats(onednn_jax.scale_shift(x, jnp.ones(1), jnp.zeros(1)))
    np.testing.assert_array_equal(y, floats(x))


def test_rounding_is_to_nearest_even() -> None:
    x = jnp.asarray(np.arange(0x3F80, 0x4080, dtype=np.uint16).view(jnp.bfloat16))
    factor = jnp.float32(1 + 2**-8) * jnp.ones(1)
    y = onednn_jax.scale_shift(x[:, None], factor, jnp.zeros(1))
    expected = (x.astype(jnp.float32)[:, None] * factor[None]).astype(jnp.bfloat16)
    np.testing.assert_array_equal(floats(y), floats(expected))


def test_empty_batch(dtype: str) -> None:
    """Nothing comes out, and the gradients are zeros; it has no mean."""
    x, channels = jnp.zeros((0, 4, 4, 3), dtype), (jnp.ones(3), jnp.zeros(3))
    y, backward = jax.vjp(onednn_jax.scale_shift, x, *channels)
    by_x, *by_channels = backward(y)
    assert y.shape == by_x.shape == x.shape
    assert not any(array.any() for array in by_channels)
    y, *moments = onednn_jax.batch_norm(x, *channels, epsilon=1e-3)
    assert y.shape == x.shape and np.isnan(moments).all()


@pytest.mark.parametrize(
    "error, wrong, said",
    [
        (TypeError, {"x": "float16"}, "x must be float32 or bfloat16, got float16"),
        (TypeError, {"first": "bfloat16"}, "must be float32, got bfloat16"),
        (ValueError, {"x": ()}, "()"),
        (ValueError, {"x": (2, 0)}, "(2, 0)"),
        (ValueError, {"first": (2,)}, "must be (3,), got (2,)"),
        (ValueError, {"second": (1, 3)}, "must be (3,), got (1, 3)"),
    ],
)
def test_wrong_arguments(
    error: type[Exception], wrong: dict[str, Any], said: str
) -> None:
    arrays = []
    for name, shape in {"x": (2, 3), "first": (3,), "second": (3,)}.items():
        given = wrong.get(name, shape)
        is_type = isinstance(given, str)
        arrays.append(jnp.zeros(*((shape, given) if is_type else (given, "float32"))))
    with pytest.raises(error) as raised:
        onednn_jax.batch_norm(*arrays, epsilon=1e-3)
    assert said in str(raised.value)
    with pytest.raises(error):
        onednn_jax.scale_shift(*arrays)
