"""Max pools that lose no NaN."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from onednn_jax.calls import call


def max_pool(
    images: jax.Array, size: int, stride: int | None = None, padding: str = "VALID"
) -> jax.Array:
    """Take the largest number of each window of `size` x `size`.

    Of equal largest values the first one gets the gradient. A NaN is larger than every
    number.

    Args:
        images: float32 or bfloat16 [batch, height, width, channels].
        size: at most 15 and, without padding, at most the height and the width.
        stride: from one window to the next; `size` if none is given, so that windows
            are adjacent.
        padding: "VALID" leaves out rows and columns beyond the last whole window;
            "SAME" pads as XLA does. Padding is never the largest.

    Returns:
        [batch, height_out, width_out, channels].

    Raises:
        TypeError: another type.
        ValueError: a shape, a size, a stride or a padding that does not fit.
    """
    images = jnp.asarray(images)
    stride = size if stride is None else stride
    if images.dtype not in (jnp.float32, jnp.bfloat16):
        raise TypeError(f"images must be float32 or bfloat16, got {images.dtype}")
    if images.ndim != 4 or 0 in images.shape[1:]:
        raise ValueError(f"images must be [n, h, w, c], not empty, got {images.shape}")
    if padding not in ("SAME", "VALID"):
        raise ValueError(f"padding must be SAME or VALID, got {padding}")
    most = 15 if padding == "SAME" else min(*images.shape[1:3], 15)
    if not 1 <= size <= most:
        raise ValueError(f"windows of {size} x {size} do not fit images {images.shape}")
    if stride < 1:
        raise ValueError(f"stride must be at least 1, got {stride}")
    return _max_pool(images, size, stride, padding)


@functools.partial(jax.custom_vjp, nondiff_argnums=(1, 2, 3))
def _max_pool(images: jax.Array, size: int, stride: int, padding: str) -> jax.Array:
    return _forward(images, size, stride, padding)[0]


def _forward(
    images: jax.Array, size: int, stride: int, padding: str
) -> tuple[jax.Array, Any]:
    sides, window = images.shape[1:3], _window(images.shape, size, stride, padding)
    pads = lax.padtype_to_pads(sides, (size, size), (stride, stride), padding)
    rows, columns = (
        (side + sum(pad) - size) // stride + 1
        for side, pad in zip(sides, pads, strict=True)
    )
    shape = images.shape[0], rows, columns, images.shape[3]
    out, where = call(
        "pool_forward",
        (
            jax.ShapeDtypeStruct(shape, images.dtype),
            jax.ShapeDtypeStruct(shape, jnp.uint8),
        ),
        images,
        window=window,
    )
    # Nothing but the shape of the images is needed of them.
    return out, (where, jnp.zeros((*images.shape, 0), images.dtype))


def _backward(
    size: int, stride: int, padding: str, kept: tuple[Any, ...], gradient: jax.Array
) -> tuple[jax.Array]:
    where, like = kept
    images = jax.ShapeDtypeStruct(like.shape[:-1], like.dtype)
    window = _window(images.shape, size, stride, padding)
    return (call("pool_backward", images, gradient, where, window=window),)


_max_pool.defvjp(_forward, _backward)


def _window(shape: tuple[int, ...], size: int, stride: int, padding: str) -> np.ndarray:
    """Return the size, the stride, and the padding above and to the left."""
    sides, steps = shape[1:3], (stride, stride)
    (top, _), (left, _) = lax.padtype_to_pads(sides, (size, size), steps, padding)
    return np.array((size, stride, top, left), np.int64)
