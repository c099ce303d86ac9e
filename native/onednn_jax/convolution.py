"""Convolutions with bias and ReLU, computed by oneDNN."""

import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from onednn_jax.calls import call, like

Padding = str | Sequence[tuple[int, int]]


def conv(
    images: jax.Array,
    kernel: jax.Array,
    bias: jax.Array | None = None,
    *,
    padding: Padding = "SAME",
    relu: bool = False,
    strides: tuple[int, int] = (1, 1),
    groups: int = 1,
) -> jax.Array:
    """Convolve, add a bias, and take the ReLU, in one pass.

    Args:
        images: float32 or bfloat16 [batch, height, width, channels_in].
        kernel: of the same type, [kernel_height, kernel_width, channels_in / groups,
            channels_out].
        bias: [channels_out]; 0 if none is given.
        padding: "SAME", "VALID", or the padding before and after height and width.
        relu: whether negative results become 0. A NaN stays one.
        strides: down and across.
        groups: divide the channels, in and out; each output depends on the inputs of
            its group.

    Returns:
        [batch, height_out, width_out, channels_out], of the images' type.

    Raises:
        TypeError: another type, or two types.
        ValueError: shapes that do not fit, groups that do not divide the channels,
            negative padding, or strides below 1.
    """
    images, kernel = jnp.asarray(images), jnp.asarray(kernel)
    if images.dtype not in (jnp.float32, jnp.bfloat16) or kernel.dtype != images.dtype:
        raise TypeError(
            "images and kernel must both be float32 or both bfloat16, got "
            f"{images.dtype} and {kernel.dtype}"
        )
    if images.ndim != 4 or kernel.ndim != 4:
        raise ValueError(
            "images must be [n, h, w, c] and kernel [h, w, c, d], got "
            f"{images.shape} and {kernel.shape}"
        )
    inputs, outputs = images.shape[3], kernel.shape[3]
    if groups < 1 or inputs % groups or outputs % groups:
        raise ValueError(
            f"groups={groups} must divide the channels, {inputs} in and {outputs} out"
        )
    if inputs != kernel.shape[2] * groups:
        raise ValueError(
            f"images must be [n, h, w, c] and kernel [h, w, c / {groups}, d], got "
            f"{images.shape} and {kernel.shape}"
        )
    strides = int(strides[0]), int(strides[1])
    if min(strides) < 1:
        raise ValueError(f"strides must be at least 1, got {strides}")
    # A batch may be empty; what is left of the rest would be nothing but the bias.
    if 0 in (*images.shape[1:], *kernel.shape):
        raise ValueError(
            "images and kernel must not be empty, got "
            f"{images.shape} and {kernel.shape}"
        )
    bias = (
        jnp.zeros(kernel.shape[3:], jnp.float32) if bias is None else jnp.asarray(bias)
    )
    if bias.dtype not in (jnp.float32, jnp.bfloat16):
        raise TypeError(f"bias must be float32 or bfloat16, got {bias.dtype}")
    if bias.shape != kernel.shape[3:]:
        raise ValueError(f"bias must be {kernel.shape[3:]}, got {bias.shape}")
    if isinstance(padding, str):
        if padding.upper() not in ("SAME", "SAME_LOWER", "VALID"):
            raise ValueError(
                f"padding must be SAME, SAME_LOWER or VALID, got {padding}"
            )
        padding = lax.padtype_to_pads(
            images.shape[1:3], kernel.shape[:2], strides, padding.upper()
        )
    pads = tuple(int(pad) for pair in padding for pad in pair)
    if len(pads) != 4 or min(pads) < 0:
        raise ValueError(
            f"padding must be two pairs of numbers that are not negative, got {padding}"
        )
    return _conv(images, kernel, bias, (*pads, *strides, groups), relu)


@functools.partial(jax.custom_vjp, nondiff_argnums=(3, 4))
def _conv(
    images: jax.Array,
    kernel: jax.Array,
    bias: jax.Array,
    window: tuple[int, ...],
    relu: bool,
) -> jax.Array:
    top, bottom, left, right, down, across, _ = window
    count, height, width, _ = images.shape
    rows, columns, _, channels = kernel.shape
    shape = (
        count,
        (height + top + bottom - rows) // down + 1,
        (width + left + right - columns) // across + 1,
        channels,
    )
    if min(shape[1:3]) < 1:
        raise ValueError(
            f"a kernel {kernel.shape} is larger than images {images.shape} with "
            f"padding {((top, bottom), (left, right))}"
        )
    return call(
        "conv_forward",
        jax.ShapeDtypeStruct(shape, images.dtype),
        images,
        kernel,
        bias.astype(jnp.float32),
        window=np.array(window, np.int64),
        relu=relu,
    )


def _forward(
    images: jax.Array,
    kernel: jax.Array,
    bias: jax.Array,
    window: tuple[int, ...],
    relu: bool,
) -> tuple[jax.Array, tuple[Any, ...]]:
    out: Any = _conv(images, kernel, bias, window, relu)
    return out, (images, kernel, bias, out if relu else None)


def _backward(
    window: tuple[int, ...], relu: bool, kept: tuple[Any, ...], gradient: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
    images, kernel, bias, out = kept
    if relu:
        gradient = jnp.where(out > 0, gradient, jnp.zeros_like(gradient))
    attributes = {"window": np.array(window, np.int64)}
    # Two calls: XLA leaves out the one whose result nobody needs.
    by_images = call(
        "conv_backward_images", like(images), gradient, kernel, **attributes
    )
    if images.shape[2] < window[5]:
        # In bfloat16, oneDNN 3.2 errs if a row is shorter than the stride across.
        images, gradient = images.astype(jnp.float32), gradient.astype(jnp.float32)
    by_kernel, by_bias = call(
        "conv_backward_kernel",
        (like(kernel, jnp.float32), like(bias, jnp.float32)),
        images,
        gradient,
        **attributes,
    )
    return by_images, by_kernel.astype(kernel.dtype), by_bias.astype(bias.dtype)


_conv.defvjp(_forward, _backward)
