"""The layers of all networks, with the defaults of Keras.

Unlike in Flax, kernels are drawn from Glorot's uniform distribution, not LeCun's normal
distribution, the strides of a pool are its window, not 1, and BatchNorm has a larger
epsilon.
"""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.linen import dtypes
from jax import lax
from jax.typing import DTypeLike
from jaxtyping import Array, Float, PRNGKeyArray, UInt32

from mnist_jax.devices import shards
from mnist_jax.models import operations
from mnist_jax.models.operations import average_pool, max_pool
from mnist_jax.models.outputs import Images, Maps

__all__ = ["BatchNorm", "Conv", "Dense", "Dropout", "average_pool", "max_pool"]

# By Keras's names.
KERNEL_INITS = {
    # Glorot and Bengio, 2010: https://proceedings.mlr.press/v9/glorot10a.html
    "glorot_uniform": nn.initializers.glorot_uniform(),
    # For deep networks of ReLUs without BatchNorm, in which Glorot's lets the signal
    # shrink from layer to layer.
    # He, Zhang, Ren, Sun, 2015: https://arxiv.org/abs/1502.01852
    "he_normal": nn.initializers.he_normal(),
}
_KERNEL_INIT = KERNEL_INITS["glorot_uniform"]
HE_NORMAL = KERNEL_INITS["he_normal"]


class Conv(nn.Module):
    """A convolution with the parameters of `nn.Conv`, computed with its ReLU if any."""

    features: int
    kernel_size: tuple[int, int]
    strides: tuple[int, int] = (1, 1)
    padding: str = "SAME"
    groups: int = 1
    relu: bool = False
    use_bias: bool = True
    kernel_init: nn.initializers.Initializer = _KERNEL_INIT
    dtype: DTypeLike | None = None

    @nn.compact
    def __call__(
        self, images: Images
    ) -> Float[Array, "batch height_out width_out features"]:
        """Convolve images."""
        shape = (*self.kernel_size, images.shape[-1] // self.groups, self.features)
        kernel = self.param("kernel", self.kernel_init, shape)
        bias = None
        if self.use_bias:
            bias = self.param("bias", nn.initializers.zeros, (self.features,))
        images, kernel, bias = dtypes.promote_dtype(
            images, kernel, bias, dtype=self.dtype
        )
        return operations.conv(
            images,
            kernel,
            bias,
            padding=self.padding,
            relu=self.relu,
            strides=self.strides,
            groups=self.groups,
        )


Dense = functools.partial(nn.Dense, kernel_init=_KERNEL_INIT)


class BatchNorm(nn.Module):
    """Normalise each channel over the batch of all devices, with Keras's defaults.

    With `relu`, a ReLU follows, computed in the same pass. Parameters and statistics
    are those of `nn.BatchNorm`, in float32 whatever `dtype`.

    Ioffe and Szegedy, 2015: https://arxiv.org/abs/1502.03167
    """

    momentum: float = 0.99
    epsilon: float = 1e-3
    relu: bool = False
    use_scale: bool = True
    dtype: DTypeLike | None = None

    @nn.compact
    def __call__(
        self, x: Float[Array, "*places channels"], *, use_running_average: bool
    ) -> Float[Array, "*places channels"]:
        """Normalise by the running statistics, or by this batch's and update those."""
        shape = x.shape[-1:]
        running_mean = self.variable("batch_stats", "mean", jnp.zeros, shape)
        running_var = self.variable("batch_stats", "var", jnp.ones, shape)
        ones = nn.initializers.ones
        scale = self.param("scale", ones, shape) if self.use_scale else jnp.ones(shape)
        bias = self.param("bias", nn.initializers.zeros, shape)
        dtype = self.dtype or x.dtype
        x = x.astype(jnp.promote_types(x.dtype, dtype))
        if use_running_average:
            mean, var = running_mean.value, running_var.value
            factor = scale * lax.rsqrt(var + self.epsilon)
            shift = bias - mean * factor
            y = operations.scale_shift(x, factor, shift, relu=self.relu)
            return y.astype(dtype)
        y, mean, var = operations.batch_norm(
            x, scale, bias, epsilon=self.epsilon, relu=self.relu
        )
        if not self.is_initializing():
            keep = self.momentum
            running_mean.value = keep * running_mean.value + (1 - keep) * mean
            running_var.value = keep * running_var.value + (1 - keep) * var
        return y.astype(dtype)


def norm_relu(
    x: Maps, name: str, *, train: bool, dtype: DTypeLike, epsilon: float = 1e-3
) -> Maps:
    """Normalize and apply ReLU, in a layer of that name."""
    norm = BatchNorm(epsilon=epsilon, relu=True, dtype=dtype, name=name)
    return norm(x, use_running_average=not train)


class Dropout(nn.Module):
    """Zero a share of the inputs in training and scale up the others.

    Unlike `nn.Dropout`, it takes a random byte for each input instead of a 32-bit word
    if the rate is a multiple of 1/256.

    Srivastava, Hinton, Krizhevsky, Sutskever, Salakhutdinov: "Dropout: a simple way to
    prevent neural networks from overfitting", JMLR 15, 2014.
    """

    rate: float

    @nn.compact
    def __call__(self, x: Float[Array, "*shape"], *, train: bool) -> Array:
        """Drop inputs at random if `train`."""
        if not train or self.rate == 0:
            return x
        keep = draw_mask(self.make_rng("dropout"), 1 - self.rate, x.shape)
        return jnp.where(keep, x / (1 - self.rate), 0)


def draw_mask(key: PRNGKeyArray, share: float, shape: tuple[int, ...]) -> Array:
    """Draw booleans that are True with exactly the probability `share`.

    On several devices, `shape` is that of a shard, and its mask that part of the mask
    for the whole batch.
    """
    if not (share * 256).is_integer():
        whole = (shards.count() * shape[0], *shape[1:])
        return shards.local(jax.random.bernoulli(key, share, whole), shape[0])
    # A byte each. `jax.random.bits` draws a word for every byte, and its loop runs on a
    # single core of a CPU: that takes 8 % of the double CNN's step.
    *outer, last = shape
    words = _draw_words(key, (*outer, -(-last // 4)))
    drawn = lax.bitcast_convert_type(words, jnp.uint8).reshape(*outer, -1)
    return drawn[..., :last] < int(share * 256)


def _draw_words(key: PRNGKeyArray, shape: tuple[int, ...]) -> UInt32[Array, "*shape"]:
    """Draw random words by Threefry-2x32 with 20 rounds, JAX's own generator.

    Each word depends only on the key and its place in the whole batch, so that a
    device can draw those of its shard alone.

    Salmon, Moraes, Dror, Shaw: "Parallel random numbers: as easy as 1, 2, 3", 2011.
    """
    first, second = jax.random.bits(key, (2,))
    keys = first, second, first ^ second ^ jnp.uint32(0x1BD11BDA)
    place = jnp.full(shape, shards.index(), jnp.uint32)
    for axis, size in enumerate(shape):
        place = place * jnp.uint32(size) + lax.broadcasted_iota(jnp.uint32, shape, axis)
    x, y = keys[0] + jnp.zeros_like(place), keys[1] + place
    for group in range(5):
        for rotation in ((13, 15, 26, 6), (17, 29, 16, 24))[group % 2]:
            x = x + y
            y = x ^ ((y << rotation) | (y >> (32 - rotation)))
        x = x + keys[(group + 1) % 3]
        y = y + keys[(group + 2) % 3] + jnp.uint32(group + 1)
    return x ^ y
