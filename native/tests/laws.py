"""What the operations must equal: the same ones, written for XLA."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import onednn_jax
from jax import lax

# Sums in another order, as a share of the largest; and two roundings of a bfloat16, of
# the result and of the gradient that comes in.
TOLERANCES = {"float32": 2e-5, "bfloat16": 2**-7}

# Compiles in half the time, for what is computed once.
quick_jit = functools.partial(
    jax.jit, compiler_options={"xla_backend_optimization_level": "0"}
)


def plain_conv(
    images: jax.Array,
    kernel: jax.Array,
    bias: jax.Array | None = None,
    padding: Any = "SAME",
    relu: bool = False,
    strides: tuple[int, int] = (1, 1),
    groups: int = 1,
) -> jax.Array:
    y = lax.conv_general_dilated(
        images,
        kernel,
        strides,
        padding,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=groups,
    )
    y = y if bias is None else y + bias.reshape(1, 1, 1, -1)
    return jax.nn.relu(y) if relu else y


def plain_pool(
    images: jax.Array, size: int, stride: int | None = None, padding: str = "VALID"
) -> jax.Array:
    stride = stride or size
    window, step = (1, size, size, 1), (1, stride, stride, 1)
    return lax.reduce_window(images, -jnp.inf, lax.max, window, step, padding)


def plain_norm(
    x: jax.Array, scale: jax.Array, bias: jax.Array, relu: bool = False
) -> tuple[jax.Array, jax.Array, jax.Array]:
    x = x.astype(jnp.float32)
    mean, var = x.mean(range(x.ndim - 1)), x.var(range(x.ndim - 1))
    places = (None,) * (x.ndim - 1)
    y = (x - mean[places]) * (scale * lax.rsqrt(var + 1e-3))[places] + bias[places]
    return jax.nn.relu(y) if relu else y, mean, var


def draw(
    seed: int, *shape: int, dtype: Any = "float32", put: dict[Any, float] | None = None
) -> jax.Array:
    """Draw from a normal distribution, and put some other numbers in places."""
    numbers = np.random.default_rng(seed).standard_normal(shape)
    for place, number in (put or {}).items():
        numbers[place] = number
    return jnp.asarray(numbers.astype(jnp.dtype(dtype)))


def floats(array: jax.Array) -> np.ndarray:
    """Return float32 for NumPy, whose tests do not know that a bfloat16 may be NaN."""
    return np.asarray(array).astype(np.float32)


def assert_close(ours: Any, theirs: Any, tolerance: float) -> None:
    """Compare pytrees, each array by a share of its largest number."""
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        assert a.shape == b.shape
        if a.size:
            a, b = floats(a), floats(b)
            np.testing.assert_allclose(a, b, rtol=0, atol=tolerance * np.abs(b).max())


def assert_same(ours: Any, theirs: Any) -> None:
    """Compare pytrees bit for bit."""
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        assert a.shape == b.shape and a.dtype == b.dtype
        assert np.asarray(a).tobytes() == np.asarray(b).tobytes()


def check_conv(
    images: tuple[int, ...],
    kernel: tuple[int, ...],
    padding: Any = "SAME",
    dtype: str = "float32",
    bias: bool = True,
    relu: bool = True,
    **window: Any,
) -> None:
    """Compare the value and the three gradients with XLA's in float32."""
    arrays = [draw(0, *images, dtype=dtype), draw(1, *kernel, dtype=dtype)]
    if bias:
        arrays.append(draw(2, kernel[3]))

    def ours(*arrays: jax.Array) -> jax.Array:
        return onednn_jax.conv(*arrays, padding=padding, relu=relu, **window)

    @quick_jit
    def run(arrays: list[jax.Array], gradient: jax.Array) -> Any:
        out, backward = jax.vjp(ours, *arrays)
        singles = [x.astype(jnp.float32) for x in arrays]

        def theirs(*arrays: jax.Array) -> jax.Array:
            return plain_conv(*arrays, padding=padding, **window)

        expected, plain_backward = jax.vjp(theirs, *singles)
        arriving = gradient.astype(jnp.float32)
        if relu:
            expected = jax.nn.relu(expected)
            # From where ours is positive: XLA's may be rounded to the other side of 0.
            arriving = jnp.where(out > 0, arriving, 0)
        return (out, backward(gradient)), (expected, plain_backward(arriving))

    shape = jax.eval_shape(ours, *arrays).shape
    got, expected = run(arrays, draw(3, *shape, dtype=dtype))
    assert [x.dtype for x in jax.tree.leaves(got)] == [
        dtype,
        *(x.dtype for x in arrays),
    ]
    assert_close(got, expected, TOLERANCES[dtype])
