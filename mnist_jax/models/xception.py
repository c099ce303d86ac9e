"""Xception, whose convolutions are depthwise separable: `xception` and `xception_v1`.

Chollet, 2017: https://arxiv.org/abs/1610.02357
"""

import functools
import itertools
from typing import ClassVar

import flax.linen as nn
import jax.numpy as jnp
from jax.typing import DTypeLike

from mnist_jax.models import imagenet, layers
from mnist_jax.models.layers import HE_NORMAL
from mnist_jax.models.outputs import Images, Logits, Maps

_conv = functools.partial(layers.Conv, use_bias=False, kernel_init=HE_NORMAL)


class SeparableConv(nn.Module):
    """A 3x3 convolution of each channel alone, then a 1x1 convolution.

    Keras's SeparableConv2D has both kernels in one layer: `depthwise_kernel`
    [3, 3, channels, 1] is `depthwise/kernel` [3, 3, 1, channels] here, and
    `pointwise_kernel` [1, 1, channels, features] is `pointwise/kernel`.
    """

    features: int
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: Maps) -> Maps:
        """Convolve; height and width stay as they are."""
        conv = functools.partial(_conv, dtype=self.dtype)
        x = conv(x.shape[-1], (3, 3), groups=x.shape[-1], name="depthwise")(x)
        return conv(self.features, (1, 1), name="pointwise")(x)


class _Body:
    """The blocks that both networks consist of, which Keras numbers from 1."""

    stem: ClassVar[tuple[str, int, int]]  # padding, and the stride of each convolution
    blocks: ClassVar[tuple[tuple, ...]]  # what each does, its convolutions' channels
    shortcuts: ClassVar[dict[int, tuple[str, str]]]  # the names of their two layers
    dtype: DTypeLike

    def run_stage(self, x: Maps, stage: int, *, train: bool) -> Maps:
        """Compute a block, by its index in `blocks`."""
        conv = functools.partial(_conv, dtype=self.dtype)

        def norm(x: Maps, name: str, *, relu: bool) -> Maps:
            layer = layers.BatchNorm(relu=relu, dtype=self.dtype, name=name)
            return layer(x, use_running_average=not train)

        block, shortcut, (kind, *channels) = stage + 1, x, self.blocks[stage]
        if kind == "stem":
            padding, *strides = self.stem
            for layer, (features, n) in enumerate(zip(channels, strides, strict=True)):
                name = f"block{block}_conv{layer + 1}"
                x = conv(features, (3, 3), (n, n), padding, name=name)(x)
                x = norm(x, f"{name}_bn", relu=True)
            return x
        if kind == "halve":
            name, norm_name = self.shortcuts[block]
            shortcut = conv(channels[-1], (1, 1), (2, 2), name=name)(x)
            shortcut = norm(shortcut, norm_name, relu=False)
        if kind != "last":
            x = nn.relu(x)
        for layer, features in enumerate(channels, start=1):
            name = f"block{block}_sepconv{layer}"
            x = SeparableConv(features, dtype=self.dtype, name=name)(x)
            x = norm(x, f"{name}_bn", relu=kind == "last" or layer < len(channels))
        if kind == "halve":
            x = layers.max_pool(x, 3, 2, "SAME")
        return x if kind == "last" else x + shortcut


class Xception(_Body, nn.Module):
    """Xception for small images: a stem, an entry block, three middle and a last block.

    298,538 parameters, of which 4,160 are BatchNorm's statistics.

    The published network has three entry blocks, eight middle blocks of 728 channels
    and one more block that halves the image: 299x299 become 10x10. Here the stem and
    one entry block make 7x7 of 28x28, and 128 channels are enough for ten classes. The
    layers have the published network's names.
    """

    stem = ("SAME", 1, 2)
    blocks = (
        ("stem", 32, 64),
        ("halve", 128, 128),
        *3 * (("add", 128, 128, 128),),
        ("last", 192, 256),
    )
    shortcuts: ClassVar = {2: ("block2_shortcut", "block2_shortcut_bn")}
    num_classes: int
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, images: Images, *, train: bool) -> Logits:
        """Map images to logits. The features are the 256 averages over all places."""
        x = images
        for stage in range(len(self.blocks)):
            x = self.run_stage(x, stage, train=train)
        x = x.astype(jnp.float32).mean(axis=(1, 2))
        self.sow("intermediates", "features", x)
        x = layers.Dropout(0.3)(x, train=train)
        return layers.Dense(self.num_classes, kernel_init=HE_NORMAL, name="logits")(x)


class XceptionV1(_Body, imagenet.Published):
    """The published Xception, `keras.applications.Xception`, with a new head.

    21,915,698 parameters, of which 54,528 are BatchNorm's statistics; 20,861,480 are
    the body's. Layers have Keras's names, shortcuts the numbers that it gives them.
    """

    stem = ("VALID", 2, 1)
    blocks = (
        ("stem", 32, 64),
        ("halve", 128, 128),
        ("halve", 256, 256),
        ("halve", 728, 728),
        *8 * (("add", 728, 728, 728),),
        ("halve", 728, 1024),
        ("last", 1536, 2048),
    )
    shortcuts: ClassVar = {
        block: imagenet.numbered(number) for number, block in enumerate((2, 3, 4, 13))
    }
    scale = "tf"
    input_size: int = imagenet.input_size(71, "3x3", trained_on=299)

    def body(self) -> tuple[tuple[str, ...], ...]:
        """Return the names of the layers of each block."""
        stages = []
        for block, (kind, *channels) in enumerate(self.blocks, start=1):
            parts = ("sepconv", "/depthwise", "/pointwise", "_bn")
            conv, *parts = ("conv", "", "_bn") if kind == "stem" else parts
            names = itertools.product(range(1, len(channels) + 1), parts)
            names = (f"block{block}_{conv}{layer}{part}" for layer, part in names)
            stages.append((*self.shortcuts.get(block, ()), *names))
        return tuple(stages)
