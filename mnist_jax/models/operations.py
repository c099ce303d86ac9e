"""Operations that can be computed in several forms.

- "plain": XLA's operations, for accelerators and for exported programs.
- "cpu": the same, except for replacements of those that XLA computes slowly on a CPU.
- "onednn": the library that TensorFlow and PyTorch use on a CPU, through the package
  `onednn_jax` (the folder `native/`).

`form` sets the form for a block of code; by default the backend decides between the
first two. All forms give the same numbers up to rounding
(tests/models/test_forms.py). docs/performance.md compares their speed.
"""

import contextlib
import contextvars
import functools
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from mnist_jax.errors import UserError

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

    With strides or groups, all forms use XLA's convolution. Otherwise, the form "cpu"
    multiplies patches by a matrix in two cases: one input channel with few outputs
    (LeNet-5 trains 12 % faster), and images smaller than the kernel, for which XLA
    falls back to a naive loop (VGG's 2x2x512 by 3x3 takes 455 ms instead of 3.6).
    """
    plain = strides != (1, 1) or groups != 1
    if current() == "onednn" and not plain:
        return onednn_jax.conv(images, kernel, bias, padding=padding, relu=relu)
    small = min(images.shape[1:3]) < max(kernel.shape[:2])
    few = kernel.shape[2] == 1 and kernel.shape[3] < 32
    if current() == "cpu" and (few or small) and not plain:
        out = _conv_by_patches(images, kernel, padding)
    else:
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


def _conv_by_patches(
    images: Float[Array, "batch height width channels_in"],
    kernel: Float[Array, "kernel_height kernel_width channels_in channels_out"],
    padding: str,
) -> Float[Array, "batch height_out width_out channels_out"]:
    # `lax.conv_general_dilated_patches` is itself a convolution, and a slow one.
    rows, columns, channels_in, channels_out = kernel.shape
    pads = lax.padtype_to_pads(images.shape[1:3], (rows, columns), (1, 1), padding)
    padded = jnp.pad(images, ((0, 0), *pads, (0, 0)))
    height, width = padded.shape[1] - rows + 1, padded.shape[2] - columns + 1
    patches = jnp.concatenate(
        [
            padded[:, row : row + height, column : column + width]
            for row in range(rows)
            for column in range(columns)
        ],
        axis=-1,
    )
    matrix = kernel.reshape(rows * columns * channels_in, channels_out)
    return patches @ matrix


def max_pool(
    x: Float[Array, "batch height width channels"],
    window: int,
    strides: int | None = None,
    padding: str = "VALID",
) -> Float[Array, "batch height_out width_out channels"]:
    """Take the maximum of windows of `window` x `window`.

    By default, windows are adjacent (`strides=window`). "VALID" drops incomplete ones,
    "SAME" pads them.

    For windows that overlap or are padded, all forms use XLA's reduction. Otherwise,
    the form "cpu" compares pairs of elements, since the gradient of `reduce_window` is
    slow on a CPU. Equal maxima share the gradient, where `reduce_window` gives it to
    the first; after a ReLU, whose gradient is 0 if a whole window is 0, the result is
    the same. (`x.max(axis=(2, 4))` loses the gradient if XLA recomputes `x` with
    different rounding.)
    """
    size, strides = window, strides or window
    plain = strides != size or padding != "VALID"
    if current() == "onednn" and not plain:
        return onednn_jax.max_pool(x, size)
    if current() == "plain" or plain:
        shape, steps = (1, size, size, 1), (1, strides, strides, 1)
        return lax.reduce_window(x, -jnp.inf, lax.max, shape, steps, padding)
    batch, height, width, channels = x.shape
    rows, columns = height // size, width // size
    x = x[:, : rows * size, : columns * size]
    x = x.reshape(batch, rows, size, columns, size, channels)
    x = functools.reduce(jnp.maximum, [x[:, :, row] for row in range(size)])
    return functools.reduce(jnp.maximum, [x[:, :, :, i] for i in range(size)])


def sum_places(
    x: Float[Array, "batch *places channels"],
) -> Float[Array, " channels"]:
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
