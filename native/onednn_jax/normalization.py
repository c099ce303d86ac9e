"""BatchNorm and its ReLU, for one device or several."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from onednn_jax.calls import call, like

Average = Callable[[Any], Any]


def batch_norm(
    x: jax.Array,
    scale: jax.Array,
    bias: jax.Array,
    *,
    epsilon: float,
    relu: bool = False,
    average: Average = lambda tree: tree,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Normalise each channel by its moments, scale and shift it, and take the ReLU.

    Args:
        x: float32 or bfloat16 [..., channels].
        scale: float32 [channels].
        bias: float32 [channels].
        epsilon: is added to the variance.
        relu: whether negative results become 0. A NaN stays one.
        average: averages a pytree over devices that have equal parts of a batch, as
            `functools.partial(lax.pmean, axis_name="data")` does.

    Returns:
        The result, of the shape and type of `x`; the mean and the variance of each
        channel over all other axes and all devices, float32 [channels], through which
        no gradient is taken except that of the result. They are NaN for an empty batch.

    Raises:
        TypeError: another type.
        ValueError: shapes that do not fit.
    """
    x, scale, bias = _check(x, scale=scale, bias=bias)
    results: Any = _batch_norm(x, scale, bias, epsilon, relu, average)
    y, mean, var = results
    return y, lax.stop_gradient(mean), lax.stop_gradient(var)


def scale_shift(
    x: jax.Array, factor: jax.Array, shift: jax.Array, *, relu: bool = False
) -> jax.Array:
    """Return `x * factor + shift`, or its ReLU: BatchNorm by known statistics.

    Args:
        x: float32 or bfloat16 [..., channels].
        factor: float32 [channels].
        shift: float32 [channels].
        relu: whether negative results become 0. A NaN stays one.

    Returns:
        An array of the shape and type of `x`.

    Raises:
        TypeError: another type.
        ValueError: shapes that do not fit.
    """
    x, factor, shift = _check(x, factor=factor, shift=shift)
    return _scale_shift(x, factor, shift, relu)


def _check(x: jax.Array, **channels: jax.Array) -> tuple[jax.Array, ...]:
    x = jnp.asarray(x)
    if x.dtype not in (jnp.float32, jnp.bfloat16):
        raise TypeError(f"x must be float32 or bfloat16, got {x.dtype}")
    if x.ndim == 0 or x.shape[-1] == 0:
        raise ValueError(f"x must be [..., channels], not empty, got {x.shape}")
    for name, array in channels.items():
        if array.dtype != jnp.float32:
            raise TypeError(f"{name} must be float32, got {array.dtype}")
        if array.shape != x.shape[-1:]:
            raise ValueError(f"{name} must be {x.shape[-1:]}, got {array.shape}")
    return x, *channels.values()


@functools.partial(jax.custom_vjp, nondiff_argnums=(3, 4, 5))
def _batch_norm(
    x: jax.Array,
    scale: jax.Array,
    bias: jax.Array,
    epsilon: float,
    relu: bool,
    average: Average,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    return _batch_norm_forward(x, scale, bias, epsilon, relu, average)[0]


def _batch_norm_forward(
    x: jax.Array,
    scale: jax.Array,
    bias: jax.Array,
    epsilon: float,
    relu: bool,
    average: Average,
) -> tuple[Any, Any]:
    own, var = call("norm_moments", (like(scale), like(scale)), x)
    mean = average(own)
    var = average(var + (own - mean) ** 2)
    root = lax.rsqrt(var + epsilon)
    factor = scale * root
    shift = bias - mean * factor
    y = call("norm_apply", like(x), x, factor, shift, relu=relu)
    return (y, mean, var), (x, factor, shift, mean, root)


def _batch_norm_backward(
    epsilon: float,
    relu: bool,
    average: Average,
    kept: tuple[jax.Array, ...],
    gradients: tuple[jax.Array, ...],
) -> tuple[jax.Array, jax.Array, jax.Array]:
    x, factor, shift, mean, root = kept
    arrays = x, gradients[0], factor, shift, mean
    by_bias, products = call(
        "norm_gradient_sums", (like(shift), like(factor)), *arrays, relu=relu
    )
    by_scale = products * root
    # A change of x also moves the mean and the variance.
    count = max(x.size // x.shape[-1], 1)
    of_bias, of_scale = average((by_bias / count, by_scale / count))
    slope, constant = -factor * root * of_scale, -factor * of_bias
    by_x = call("norm_gradient", like(x), *arrays, slope, constant, relu=relu)
    return by_x, by_scale, by_bias


_batch_norm.defvjp(_batch_norm_forward, _batch_norm_backward)


@functools.partial(jax.custom_vjp, nondiff_argnums=(3,))
def _scale_shift(
    x: jax.Array, factor: jax.Array, shift: jax.Array, relu: bool
) -> jax.Array:
    return call("norm_apply", like(x), x, factor, shift, relu=relu)


def _scale_shift_forward(
    x: jax.Array, factor: jax.Array, shift: jax.Array, relu: bool
) -> tuple[jax.Array, Any]:
    return _scale_shift(x, factor, shift, relu), (x, factor, shift)


def _scale_shift_backward(
    relu: bool, kept: tuple[jax.Array, ...], gradient: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
    x, factor, shift = kept
    zeros = jnp.zeros_like(factor)
    arrays = x, gradient, factor, shift, zeros
    # Two calls: XLA leaves out the one whose result nobody needs.
    by_shift, by_factor = call(
        "norm_gradient_sums", (like(shift), like(factor)), *arrays, relu=relu
    )
    by_x = call("norm_gradient", like(x), *arrays, zeros, zeros, relu=relu)
    return by_x, by_factor, by_shift


_scale_shift.defvjp(_scale_shift_forward, _scale_shift_backward)
