"""Xception, whose convolutions are depthwise separable.

A separable convolution is a depthwise one, of each channel alone, and a pointwise one,
of each place alone.

Chollet, 2017: https://arxiv.org/abs/1610.02357
"""

import functools
from typing import ClassVar

import flax.linen as nn
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from mnist_jax.models.layers import (
    KERNEL_INITS,
    BatchNorm,
    Conv,
    Dense,
    Dropout,
    max_pool,
)

Maps = Float[Array, "batch _ _ _"]  # images, or the output of a layer

_conv = functools.partial(Conv, use_bias=False, kernel_init=KERNEL_INITS["he_normal"])


class SeparableConv(nn.Module):
    """A 3x3 convolution of each channel, then a 1x1 convolution.

    Keras's SeparableConv2D has both kernels in one layer: `depthwise_kernel`
    [3, 3, channels, 1] is `depthwise/kernel` [3, 3, 1, channels] here, and
    `pointwise_kernel` [1, 1, channels, features] is `pointwise/kernel`.
    """

    features: int
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: Maps) -> Maps:
        """Convolve; the size stays as it is."""
        channels = x.shape[-1]
        conv = functools.partial(_conv, dtype=self.dtype)
        x = conv(channels, (3, 3), groups=channels, name="depthwise")(x)
        return conv(self.features, (1, 1), name="pointwise")(x)


class Xception(nn.Module):
    """A stem, an entry block, three middle blocks and two last convolutions.

    298,538 numbers, of which 5,000 are BatchNorm's statistics.

    Layers are named as in the published network, which has three entry blocks, eight
    middle blocks, one more that halves the image, and 728 channels where this network
    has 128. Its images are of 299x299, and become 10x10; those of 28x28 become 7x7 by
    the stem and a single entry block.
    """

    # Of each block, what it does and the channels of its convolutions.
    blocks: ClassVar[tuple[tuple, ...]] = (
        ("stem", 32, 64),
        ("halve", 128, 128),
        *3 * [("add", 128, 128, 128)],
        ("last", 192, 256),
    )
    stem_strides: ClassVar[tuple[int, int]] = (1, 2)
    stem_padding: ClassVar[str] = "SAME"
    num_classes: int
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, images: Maps, *, train: bool) -> Float[Array, "batch classes"]:
        """Map images to logits. The features are the 256 averages over all places."""
        x = images
        for number in range(1, len(self.blocks) + 1):
            x = self._block(x, number, train=train)
        x = x.astype(jnp.float32).mean(axis=(1, 2))
        self.sow("intermediates", "features", x)
        x = Dropout(0.3)(x, train=train)
        init = KERNEL_INITS["he_normal"]
        return Dense(self.num_classes, kernel_init=init, name="logits")(x)

    def _block(self, x: Maps, number: int, *, train: bool) -> Maps:
        conv = functools.partial(_conv, dtype=self.dtype)

        def norm(x: Maps, name: str, *, relu: bool = True) -> Maps:
            layer = BatchNorm(relu=relu, dtype=self.dtype, name=name)
            return layer(x, use_running_average=not train)

        kind, *channels = self.blocks[number - 1]
        if kind == "stem":
            for layer, features in enumerate(channels, start=1):
                name, stride = (
                    f"block{number}_conv{layer}",
                    self.stem_strides[layer - 1],
                )
                x = conv(
                    features, (3, 3), (stride, stride), self.stem_padding, name=name
                )(x)
                x = norm(x, f"{name}_bn")
            return x
        shortcut = x
        if kind == "halve":
            name, norm_name = self._shortcut_names(number)
            shortcut = conv(channels[-1], (1, 1), (2, 2), name=name)(x)
            shortcut = norm(shortcut, norm_name, relu=False)
        if kind != "last":
            x = nn.relu(x)
        for layer, features in enumerate(channels, start=1):
            name = f"block{number}_sepconv{layer}"
            x = SeparableConv(features, dtype=self.dtype, name=name)(x)
            relu = kind == "last" or layer < len(channels)
            x = norm(x, f"{name}_bn", relu=relu)
        if kind == "halve":
            x = max_pool(x, 3, 2, "SAME")
        return x if kind == "last" else x + shortcut

    def _shortcut_names(self, number: int) -> tuple[str, str]:
        return f"block{number}_shortcut", f"block{number}_shortcut_bn"
