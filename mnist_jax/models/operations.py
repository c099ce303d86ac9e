"""Convolutions, pools and BatchNorm, which can be computed in several forms.

- "plain": XLA's operations, for accelerators and for exported programs.
- "cpu": the same, except for replacements of those that XLA computes slowly on a CPU.
- "onednn": the library that TensorFlow and PyTorch use on a CPU, with pools and
  BatchNorm written to go with it, through the package `onednn_jax` (the folder
  `native/`).

`form` sets the form for a block of code; by default the backend decides between the
first two. All forms give the same numbers up to rounding
(tests/models/test_forms.py). docs/performance.md compares their speed.
"""

import contextlib
import contextvars
import functools
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

from mnist_jax.devices import shards
from mnist_jax.errors import UserError
from mnist_jax.models.outputs import Images, Maps

Kernel = Float[Array, "_ _ _ _"]  # height, width, channels in and out

try:
    import onednn_jax
except ImportError:
    onednn_jax: Any = None

_form = contextvars.ContextVar[str | None]("form", default=None)


class Choice(NamedTuple):
    """The form of convolutions and max pools."""

    form: str  # "plain", "cpu" or "onednn"
    name: str  # of the library, with its version: "XLA", "oneDNN 3.2.0"
    reason: str = ""  # why "auto" has not chosen oneDNN on a CPU


def choose(asked: str, *, dtype: str, begun_with: str | None = None) -> Choice:
    """Choose the form of convolutions and max pools.

    Args:
        asked: "auto", "xla" or "onednn".
        dtype: of the computation.
        begun_with: `Choice.name` of a resumed run, whose form "auto" takes again.

    Raises:
        UserError: oneDNN is asked for, or the run began with it, but it is unavailable.
    """
    began_with_onednn = bool(begun_with and begun_with.startswith("oneDNN"))
    on_cpu = jax.default_backend() == "cpu"
    xla = "cpu" if on_cpu else "plain"
    if asked == "xla" or (asked == "auto" and begun_with and not began_with_onednn):
        return Choice(xla, "XLA")
    if not on_cpu:
        reason = "it is for CPUs"
    elif onednn_jax is None:
        reason = "the package onednn-jax is not installed; `make native` builds it"
    elif not hasattr(onednn_jax, "batch_norm"):  # 0.1
        reason = "the installed onednn-jax is too old; `make native` updates it"
    else:
        try:
            return Choice("onednn", f"oneDNN {onednn_jax.load(dtype)}")
        except onednn_jax.Unavailable as error:
            reason = str(error)
    if asked == "onednn":
        raise UserError(f"--config.convolutions=onednn: cannot be used here: {reason}.")
    if began_with_onednn:
        raise UserError(
            f"This run began with convolutions by {begun_with}, which cannot be used "
            f"here: {reason}. --config.convolutions=xla continues without it; then the "
            "result differs in its last digits."
        )
    return Choice(xla, "XLA", reason if on_cpu else "")


@contextlib.contextmanager
def form(name: str | None) -> Iterator[None]:
    """Set the form of the operations traced in a block; None for the default."""
    token = _form.set(name)
    try:
        yield
    finally:
        _form.reset(token)


def current() -> str:
    """Return the form in which operations are traced now."""
    return _form.get() or ("cpu" if jax.default_backend() == "cpu" else "plain")


def conv(
    images: Float[Array, "batch height width channels_in"],
    kernel: Float[Array, "kernel_height kernel_width group_in channels_out"],
    bias: Float[Array, " channels_out"] | None,
    *,
    padding: str,
    relu: bool,
    strides: tuple[int, int] = (1, 1),
    groups: int = 1,
) -> Float[Array, "batch height_out width_out channels_out"]:
    """Convolve; then add the bias and apply ReLU, if any.

    All arrays have the same type; `padding` is "SAME" or "VALID".

    The form "cpu" replaces what XLA computes slowly:

    - One input channel with few outputs: patches times a matrix (LeNet-5 trains 12 %
      faster). The same for images smaller than the kernel, where XLA falls back to a
      naive loop (VGG's 2x2x512 by 3x3 takes 455 ms instead of 3.6).
    - Large kernels with strides: blocks of pixels become channels, so that the stride
      is 1 (9x9 with stride 2 is 4 times as fast; smaller kernels gain nothing).
    - Groups of one channel: a sum of shifted images (6 times as fast).
    """
    if current() == "onednn":
        return onednn_jax.conv(
            images,
            kernel,
            bias,
            padding=padding,
            relu=relu,
            strides=strides,
            groups=groups,
        )
    on_cpu = current() == "cpu"
    small = min(images.shape[1:3]) < max(kernel.shape[:2])
    few = kernel.shape[2] == 1 and kernel.shape[3] < 32
    large = min(kernel.shape[:2]) > 6 and strides != (1, 1)
    if on_cpu and groups == images.shape[-1] > 1:
        out = _conv_depthwise(images, kernel, strides, padding)
    elif on_cpu and groups == 1 and (few or small):
        out = _conv_by_patches(images, kernel, strides, padding)
    else:
        if on_cpu and groups == 1 and large:
            images, kernel = _without_strides(images, kernel, strides, padding)
            strides, padding = (1, 1), "VALID"
        out = lax.conv_general_dilated(
            images,
            kernel,
            strides,
            padding,
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
            feature_group_count=groups,
        )
    if bias is not None:
        out = out + bias[None, None, None]
    return jax.nn.relu(out) if relu else out


def _pad(
    x: Images,
    window: tuple[int, int],
    strides: tuple[int, int],
    padding: str,
    value: float = 0,
) -> Float[Array, "batch padded_height padded_width channels"]:
    pads = lax.padtype_to_pads(x.shape[1:3], window, strides, padding)
    return jnp.pad(x, ((0, 0), *pads, (0, 0)), constant_values=value)


def _shifted(x: Array, axis: int, window: int, stride: int) -> list[Array]:
    """Return the first elements of all windows along an axis, the second ones, ..."""
    last = (x.shape[axis] - window) // stride * stride
    return [
        lax.slice_in_dim(x, place, place + last + 1, stride, axis)
        for place in range(window)
    ]


def _conv_by_patches(
    images: Maps, kernel: Kernel, strides: tuple[int, int], padding: str
) -> Maps:
    # `lax.conv_general_dilated_patches` is itself a convolution, and a slow one.
    rows, columns, channels_in, channels_out = kernel.shape
    patches = [
        place
        for row in _shifted(
            _pad(images, (rows, columns), strides, padding), 1, rows, strides[0]
        )
        for place in _shifted(row, 2, columns, strides[1])
    ]
    matrix = kernel.reshape(rows * columns * channels_in, channels_out)
    return jnp.concatenate(patches, axis=-1) @ matrix


def _conv_depthwise(
    images: Maps, kernel: Kernel, strides: tuple[int, int], padding: str
) -> Maps:
    rows, columns, _, features = kernel.shape
    x = jnp.repeat(images, features // images.shape[-1], axis=-1)
    x = _pad(x.astype(jnp.float32), (rows, columns), strides, padding)
    terms = [
        place * spread(kernel[i, j, 0].astype(jnp.float32), place)
        for i, row in enumerate(_shifted(x, 1, rows, strides[0]))
        for j, place in enumerate(_shifted(row, 2, columns, strides[1]))
    ]
    return functools.reduce(jnp.add, terms).astype(images.dtype)


def _without_strides(
    images: Maps, kernel: Kernel, strides: tuple[int, int], padding: str
) -> tuple[Maps, Kernel]:
    """Return images and a kernel whose convolution with stride 1 is that with strides.

    Each block of pixels, as large as the strides, becomes one pixel of more channels.
    """
    (rows, columns, channels, features), (down, across) = kernel.shape, strides
    x = _pad(images, (rows, columns), strides, padding)
    height, width = (
        (x.shape[1] - rows) // down + 1,
        (x.shape[2] - columns) // across + 1,
    )
    # Kernels and images are filled up to whole blocks.
    tall, wide = -(-rows // down), -(-columns // across)
    kernel = jnp.pad(
        kernel,
        ((0, tall * down - rows), (0, wide * across - columns), (0, 0), (0, 0)),
    )
    high, broad = (height - 1 + tall) * down, (width - 1 + wide) * across
    x = x[:, :high, :broad]
    x = jnp.pad(x, ((0, 0), (0, high - x.shape[1]), (0, broad - x.shape[2]), (0, 0)))
    x = x.reshape(len(x), high // down, down, broad // across, across, channels)
    x = x.transpose(0, 1, 3, 2, 4, 5).reshape(*x.shape[:2], broad // across, -1)
    kernel = kernel.reshape(tall, down, wide, across, channels, features)
    kernel = kernel.transpose(0, 2, 1, 3, 4, 5).reshape(tall, wide, -1, features)
    return x, kernel


def max_pool(
    x: Images, window: int, strides: int | None = None, padding: str = "VALID"
) -> Float[Array, "batch height_out width_out channels"]:
    """Take the maximum of windows of `window` x `window`.

    By default, windows are adjacent (`strides=window`). "VALID" drops incomplete ones,
    "SAME" pads them.

    The form "cpu" compares pairs of elements, since the gradient of `reduce_window` is
    slow on a CPU. Equal maxima share the gradient, where the other forms give it to
    the first; after a ReLU, whose gradient is 0 if a whole window is 0, the result is
    the same. (`x.max(axis=(2, 4))` loses the gradient if XLA recomputes `x` with
    different rounding.)
    """
    strides = strides or window
    if current() == "onednn":
        return onednn_jax.max_pool(x, window, strides, padding)
    if current() == "plain":
        shape, steps = (1, window, window, 1), (1, strides, strides, 1)
        return lax.reduce_window(x, -jnp.inf, lax.max, shape, steps, padding)
    return _pool(x, window, strides, padding, -jnp.inf, jnp.maximum)


def average_pool(
    x: Images, window: int, strides: int | None = None, padding: str = "VALID"
) -> Float[Array, "batch height_out width_out channels"]:
    """Average over windows as in `max_pool`; padding does not count, as in Keras.

    On a CPU, pairs of elements are added.
    """
    strides = strides or window
    if current() == "plain":
        shape, steps = (window, window), (strides, strides)
        whole = padding == "VALID"
        y = nn.avg_pool(x, shape, steps, padding, count_include_pad=whole)
        return y.astype(x.dtype)  # counts are float32
    ones = np.ones((1, *x.shape[1:3], 1), np.float32)
    counts = _pool(jnp.asarray(ones), window, strides, padding, 0, jnp.add)
    sums = _pool(x.astype(jnp.float32), window, strides, padding, 0, jnp.add)
    return (sums / counts).astype(x.dtype)


def _pool(
    x: Images,
    window: int,
    strides: int,
    padding: str,
    start: float,
    combine: Callable[[Array, Array], Array],
) -> Float[Array, "batch height_out width_out channels"]:
    """Combine the elements of windows pairwise, rows first, in float32."""
    values = x.astype(jnp.float32)  # XLA computes pairs of bfloat16 slowly
    values = _pad(values, (window, window), (strides, strides), padding, start)
    for axis in (1, 2):
        values = functools.reduce(combine, _shifted(values, axis, window, strides))
    return values.astype(x.dtype)


def batch_norm(
    x: Float[Array, "*places channels"],
    scale: Float[Array, " channels"],
    bias: Float[Array, " channels"],
    *,
    epsilon: float,
    relu: bool,
) -> tuple[
    Float[Array, "*places channels"],
    Float[Array, " channels"],
    Float[Array, " channels"],
]:
    """Normalise each channel over the batch of all devices; then apply ReLU, if asked.

    `scale` and `bias` are float32, as are the mean and the variance that are returned
    with the result, without a gradient of their own.
    """
    if current() == "onednn":
        return onednn_jax.batch_norm(
            x, scale, bias, epsilon=epsilon, relu=relu, average=shards.mean
        )
    values, count = x.astype(jnp.float32), x.size // x.shape[-1]
    sums = sum_places(values), sum_places(values**2)
    mean, of_squares = shards.mean((sums[0] / count, sums[1] / count))
    var = jnp.maximum(of_squares - mean**2, 0)
    factor = scale * lax.rsqrt(var + epsilon)
    y = scale_shift(x, factor, bias - mean * factor, relu=relu)
    return y, lax.stop_gradient(mean), lax.stop_gradient(var)


def scale_shift(
    x: Float[Array, "*places channels"],
    factor: Float[Array, " channels"],
    shift: Float[Array, " channels"],
    *,
    relu: bool,
) -> Float[Array, "*places channels"]:
    """Return `x * factor + shift`, computed in float32, or its ReLU."""
    if current() == "onednn":
        return onednn_jax.scale_shift(x, factor, shift, relu=relu)
    y = x.astype(jnp.float32) * spread(factor, x) + spread(shift, x)
    return (jax.nn.relu(y) if relu else y).astype(x.dtype)


def sum_places(x: Float[Array, "batch *places channels"]) -> Float[Array, " channels"]:
    """Sum over all axes but the last.

    On a CPU, multiply each image by ones: XLA's sum uses a single core, takes 2.0 ms
    for 86x28x28x32 instead of 0.2, and is less accurate.
    """
    if current() == "plain":
        return x.sum(axis=range(x.ndim - 1))
    batch, channels = x.shape[0], x.shape[-1]
    x = x.reshape(batch, -1, channels)
    of_images = jnp.ones((batch, 1, x.shape[1]), x.dtype) @ x
    return (jnp.ones((1, batch), x.dtype) @ of_images[:, 0])[0]


@jax.custom_vjp
def spread(
    values: Float[Array, " channels"], x: Float[Array, "*places channels"]
) -> Float[Array, "*places channels"]:
    """Broadcast `values` to the shape of `x`, with `sum_places` as the gradient."""
    return jnp.broadcast_to(values[(None,) * (x.ndim - 1)], x.shape)


spread.defvjp(
    lambda values, x: (spread(values, x), x),
    lambda x, gradient: (sum_places(gradient), jnp.zeros_like(x)),
)
