"""DenseNet: `densenet` for small images, and `densenet121`.

A layer sees the input of its block and the output of each layer before it in the block.

Huang, Liu, van der Maaten, Weinberger, 2017: https://arxiv.org/abs/1608.06993
"""

import functools
from collections.abc import Sequence
from typing import Any, ClassVar

import flax.linen as nn
import jax.numpy as jnp
from jax.typing import DTypeLike

from mnist_jax.models import imagenet, layers
from mnist_jax.models.layers import HE_NORMAL
from mnist_jax.models.outputs import Logits, Maps

_conv = functools.partial(layers.Conv, use_bias=False, kernel_init=HE_NORMAL)


class DenseNet(nn.Module):
    """DenseNet-BC with two blocks, of 6 and 8 layers, for small images.

    239,466 parameters, of which 5,216 are BatchNorm's statistics. A layer adds `growth`
    channels to those of its block. It computes them by BN-ReLU-conv twice: of 1x1 to
    four times as many ("B", for bottleneck), and of 3x3. Between blocks, a convolution
    halves the number of channels ("C", for compression), and a pool halves the image.

    The paper's smallest network for CIFAR has three blocks of 16 layers that add 12
    channels each. Images of 28x28 take fewer layers, and wider ones compute faster. As
    in the paper's networks for ImageNet, a pool precedes the blocks, which therefore
    compute at 14x14 and 7x7.
    """

    blocks: ClassVar[tuple[int, ...]] = (6, 8)  # numbers of layers
    growth: ClassVar[int] = 16
    num_classes: int
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, images: Maps, *, train: bool) -> Logits:
        """Map images to logits. The features are the 192 channels' means."""
        of_each = {"train": train, "dtype": self.dtype}
        stem = _conv(2 * self.growth, (5, 5), dtype=self.dtype, name="stem_conv")
        x = layers.max_pool(stem(images), 2)
        for block, count in enumerate(self.blocks, start=1):
            if block > 1:
                name = f"transition{block - 1}"
                x = _halve(x, f"{name}_norm", f"{name}_conv", **of_each)
            for layer in range(1, count + 1):
                parts = ("norm1", "conv1", "norm2", "conv2")
                names = [f"block{block}_layer{layer}_{part}" for part in parts]
                x = _add_channels(x, self.growth, names, **of_each)
        x = (
            layers.norm_relu(x, "last_norm", **of_each)
            .astype(jnp.float32)
            .mean(axis=(1, 2))
        )
        self.sow("intermediates", "features", x)
        return layers.Dense(self.num_classes, kernel_init=HE_NORMAL, name="logits")(x)


class DenseNet121(imagenet.Published):
    """The published DenseNet-121, `keras.applications.DenseNet121`, with a new head.

    7,567,434 parameters, of which 83,648 are BatchNorm's statistics; 7,037,504 are the
    body's: a stem that halves the image twice, and four blocks.
    """

    blocks: ClassVar[tuple[int, ...]] = (6, 12, 24, 16)  # numbers of layers
    growth: ClassVar[int] = 32
    scale = "torch"
    input_size: int = imagenet.input_size(32, "1x1", trained_on=224)

    def body(self) -> tuple[tuple[str, ...], ...]:
        """Return the names of the layers of the stem and of each block, in order."""
        parts = ("0_bn", "1_conv", "1_bn", "2_conv")
        stages: list[tuple[str, ...]] = [("conv1_conv", "conv1_bn")]
        for block, count in enumerate(self.blocks, start=2):
            names = [
                f"conv{block}_block{i + 1}_{x}" for i in range(count) for x in parts
            ]
            after = (f"pool{block}_bn", f"pool{block}_conv")
            stages.append((*names, *(after if block <= len(self.blocks) else ("bn",))))
        return tuple(stages)

    def run_stage(self, x: Maps, stage: int, *, train: bool) -> Maps:
        """Compute the stem, or a block and what follows it."""
        of_each = {"train": train, "dtype": self.dtype, "epsilon": 1.001e-5}
        names = self.body()[stage]
        if stage == 0:
            conv = functools.partial(_conv, padding="VALID", dtype=self.dtype)
            x = conv(64, (7, 7), (2, 2), name=names[0])(imagenet.pad(x, 3))
            x = layers.norm_relu(x, names[1], **of_each)
            return layers.max_pool(imagenet.pad(x, 1), 3, 2)
        while len(names) > 2:
            x = _add_channels(x, self.growth, names[:4], **of_each)
            names = names[4:]
        follow = _halve if len(names) == 2 else layers.norm_relu
        return follow(x, *names, **of_each)


def _add_channels(x: Maps, growth: int, names: Sequence[str], **of_each: Any) -> Maps:
    """Concatenate `x` and the `growth` channels that a layer computes from it."""
    conv = functools.partial(_conv, dtype=of_each["dtype"])
    norm1, conv1, norm2, conv2 = names
    new = conv(4 * growth, (1, 1), name=conv1)(layers.norm_relu(x, norm1, **of_each))
    new = conv(growth, (3, 3), name=conv2)(layers.norm_relu(new, norm2, **of_each))
    return jnp.concatenate([x, new], axis=-1)


def _halve(x: Maps, norm: str, conv: str, **of_each: Any) -> Maps:
    """Halve the number of channels, the height and the width."""
    conv1x1 = _conv(x.shape[-1] // 2, (1, 1), dtype=of_each["dtype"], name=conv)
    return layers.average_pool(conv1x1(layers.norm_relu(x, norm, **of_each)), 2)
