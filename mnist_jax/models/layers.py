"""The building blocks that every network here is made of, with Keras's initialisers.

Keras starts kernels from Glorot's uniform distribution and biases from zero where Flax
would draw kernels from LeCun's normal distribution. Strides of a pool are its window
here, as in Keras; in Flax they would be 1. Keras's BatchNorm has a larger epsilon.

Some operations have a second form for the CPU, where XLA's own is slow. Each gives the
same numbers to rounding (tests/models/test_layers.py), is chosen by `_on_cpu` when a
function is traced, and can be taken out by deleting its branch. The times beside them
are of one step's share, batch 86, on two x86 cores with AVX-512, jax 0.10.2.
"""

import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, PRNGKeyArray

from mnist_jax import shards

# Where kernels start, by Keras's names.
KERNEL_INITS = {
    # Glorot and Bengio, 2010: https://proceedings.mlr.press/v9/glorot10a.html
    "glorot_uniform": nn.initializers.glorot_uniform(),
    # Variance 2 / inputs, for deep networks of ReLUs without BatchNorm, in which the
    # other's signals shrink from layer to layer. Truncated at two standard deviations.
    # He, Zhang, Ren, Sun, 2015: https://arxiv.org/abs/1502.01852
    "he_normal": nn.initializers.he_normal(),
}
_KERNEL_INIT = KERNEL_INITS["glorot_uniform"]


def _on_cpu() -> bool:
    return jax.default_backend() == "cpu"


def conv(
    images: Float[Array, "batch height width channels_in"],
    kernel: Float[Array, "kernel_height kernel_width channels_in channels_out"],
    window_strides: tuple[int, ...],
    padding: list[tuple[int, int]] | str,
    **options: Any,
) -> Float[Array, "batch height_out width_out channels_out"]:
    """Convolve as `lax.conv_general_dilated` does, of which these are the arguments.

    On the CPU one grey channel is convolved as patches times a matrix: forward and
    kernel gradient of 28x28x1 -> 32 maps by 5x5 take 2.6 ms instead of 4.5. So are
    images smaller than the kernel, for which XLA falls back to a naive loop: VGG's
    2x2x512 by 3x3, batch 32, forward in 3.6 ms instead of 455, gradient by its input in
    4.4 instead of 429.
    """
    steps = [window_strides, options.get("lhs_dilation"), options.get("rhs_dilation")]
    plain = options.get("feature_group_count", 1) == 1 and all(
        step == 1 for each in steps for step in each or ()
    )
    gains = images.shape[-1] == 1 or min(images.shape[1:3]) < max(kernel.shape[:2])
    if not (_on_cpu() and plain and gains):
        return lax.conv_general_dilated(
            images, kernel, window_strides, padding, **options
        )
    return _conv_by_patches(images, kernel, padding)


def _conv_by_patches(
    images: Float[Array, "batch height width channels_in"],
    kernel: Float[Array, "kernel_height kernel_width channels_in channels_out"],
    padding: list[tuple[int, int]] | str,
) -> Float[Array, "batch height_out width_out channels_out"]:
    """Convolve with stride 1 as one product of matrices.

    The patches are shifted slices: `lax.conv_general_dilated_patches` is itself a
    convolution, and a slow one.
    """
    rows, columns, channels_in, channels_out = kernel.shape
    pads = (
        lax.padtype_to_pads(images.shape[1:3], (rows, columns), (1, 1), padding)
        if isinstance(padding, str)
        else padding
    )
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


Conv = functools.partial(nn.Conv, kernel_init=_KERNEL_INIT, conv_general_dilated=conv)
Dense = functools.partial(nn.Dense, kernel_init=_KERNEL_INIT)


def BatchNorm(**fields: Any) -> nn.BatchNorm:  # noqa: N802 - used as a module's class
    """Return `nn.BatchNorm` with Keras's numbers, over the batch of all devices.

    Its statistics are float32, whatever the `dtype` of what comes out. Tell it in the
    call, not among the fields, whether to `use_running_average`: a phase that freezes
    it says otherwise there.

    Ioffe and Szegedy, 2015: https://arxiv.org/abs/1502.03167
    """
    return nn.BatchNorm(
        momentum=0.99, epsilon=1e-3, axis_name=shards.axis_name(), **fields
    )


class Dropout(nn.Module):
    """Zero a share of the inputs in training and scale up the others.

    As `nn.Dropout`, but a rate in whole 256ths draws 8 random bits for each input
    instead of 32, which is cheaper everywhere.

    Srivastava, Hinton, Krizhevsky, Sutskever, Salakhutdinov: "Dropout: a simple way to
    prevent neural networks from overfitting", JMLR 15, 2014.

    Attributes:
        rate: the share that is zeroed, 0 <= rate < 1.
    """

    rate: float

    @nn.compact
    def __call__(self, x: Float[Array, "*shape"], *, train: bool) -> Array:
        """Drop inputs at random if `train`; the random stream is `dropout`."""
        if not train or self.rate == 0:
            return x
        whole = (shards.count() * x.shape[0], *x.shape[1:])
        keep = draw_mask(self.make_rng("dropout"), 1 - self.rate, whole)
        keep = shards.own(keep, x.shape[0])
        return jnp.where(keep, x / (1 - self.rate), 0)


def draw_mask(key: PRNGKeyArray, share: float, shape: tuple[int, ...]) -> Array:
    """Draw booleans, each True with probability `share`, exactly."""
    if (share * 256).is_integer():
        return jax.random.bits(key, shape, jnp.uint8) < int(share * 256)
    return jax.random.bernoulli(key, share, shape)


def average_pool(
    x: Float[Array, "batch height width channels"], size: int
) -> Float[Array, "batch height_out width_out channels"]:
    """Average over windows of `size` x `size` that do not overlap.

    Rows and columns beyond the last whole window are left out.
    """
    return nn.avg_pool(x, window_shape=(size, size), strides=(size, size))


def max_pool(
    x: Float[Array, "batch height width channels"], size: int
) -> Float[Array, "batch height_out width_out channels"]:
    """Take the largest of windows of `size` x `size` that do not overlap.

    Rows and columns beyond the last whole window are left out.

    On the CPU the windows become axes, over which pairs are compared: the gradient of
    `reduce_window` takes 37 ms for 86x28x28x32, that of these maxima 1.6. Equal largest
    values share the gradient, where `reduce_window` gives it to the first; behind a
    ReLU, whose own gradient is 0 where windows are all 0, that comes to the same.

    (Not `x.max(axis=(2, 4))`: its gradient goes where `x` equals the maximum, and under
    jit nothing does if XLA computes `x` again with another rounding, as it did for 7x7
    behind a BatchNorm: half of the gradient was lost.)
    """
    if not _on_cpu():
        return nn.max_pool(x, window_shape=(size, size), strides=(size, size))
    batch, height, width, channels = x.shape
    rows, columns = height // size, width // size
    x = x[:, : rows * size, : columns * size]
    x = x.reshape(batch, rows, size, columns, size, channels)
    x = functools.reduce(jnp.maximum, [x[:, :, row] for row in range(size)])
    return functools.reduce(jnp.maximum, [x[:, :, :, i] for i in range(size)])
