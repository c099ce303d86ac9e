"""ResNet with pre-activation: `resnet` for small images, and `resnet50v2`.

Residual units add to their input. Since BatchNorm and ReLU precede the convolutions,
the path from the first layer to the last has nothing but these sums.

He, Zhang, Ren, Sun, 2016: https://arxiv.org/abs/1603.05027
"""

import functools
from typing import ClassVar

import flax.linen as nn
import jax.numpy as jnp
from jax.typing import DTypeLike

from mnist_jax.models import imagenet, layers
from mnist_jax.models.layers import HE_NORMAL
from mnist_jax.models.outputs import Logits, Maps

_conv = functools.partial(layers.Conv, kernel_init=HE_NORMAL)


class ResNet(nn.Module):
    """Five residual units of two 3x3 convolutions each, for small images.

    678,826 parameters, of which 1,728 are BatchNorm's statistics. A unit adds
    BN-ReLU-conv-BN-ReLU-conv of its input to its input. Where the channels double and
    the image is halved, the shortcut is a 1x1 convolution of the activated input.

    The paper's networks for CIFAR have 54 units or more, with 16, 32 and 64 channels.
    Fewer units with more channels are as accurate, and faster (Zagoruyko and
    Komodakis, 2016: https://arxiv.org/abs/1605.07146). A single unit computes at
    28x28, where BatchNorm takes the most time.
    """

    channels: ClassVar[tuple[int, ...]] = (32, 64, 128)  # of each stage
    units: ClassVar[tuple[int, ...]] = (1, 2, 2)
    num_classes: int
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, images: Maps, *, train: bool) -> Logits:
        """Map images to logits. The features are the 128 channels' means."""
        conv = functools.partial(_conv, use_bias=False, dtype=self.dtype)
        activate = functools.partial(layers.norm_relu, train=train, dtype=self.dtype)
        x = conv(self.channels[0], (3, 3), name="stem_conv")(images)
        for stage, channels in enumerate(self.channels, start=1):
            for unit in range(1, self.units[stage - 1] + 1):
                name = f"stage{stage}_unit{unit}"
                strides = (2, 2) if stage > 1 and unit == 1 else (1, 1)
                y = activate(x, f"{name}_norm1")
                if strides == (2, 2):
                    x = conv(channels, (1, 1), strides, name=f"{name}_shortcut")(y)
                y = conv(channels, (3, 3), strides, name=f"{name}_conv1")(y)
                y = activate(y, f"{name}_norm2")
                x = x + conv(channels, (3, 3), name=f"{name}_conv2")(y)
        x = activate(x, "last_norm").astype(jnp.float32).mean(axis=(1, 2))
        self.sow("intermediates", "features", x)
        return layers.Dense(self.num_classes, kernel_init=HE_NORMAL, name="logits")(x)


class ResNet50V2(imagenet.Published):
    """The published ResNet-50, `keras.applications.ResNet50V2`, with a new head.

    24,619,018 parameters, of which 45,440 are BatchNorm's statistics; 23,564,800 are
    the body's. A unit computes in a quarter of its channels, by convolutions of 1x1,
    3x3 and 1x1. Unlike in the paper, the last unit of a stack halves the image.
    """

    channels: ClassVar[int] = 64  # of 3x3 convolutions in the first stack
    units: ClassVar[tuple[int, ...]] = (3, 4, 6, 3)
    scale = "tf"
    input_size: int = imagenet.input_size(32, "1x1", trained_on=224)

    def body(self) -> tuple[tuple[str, ...], ...]:
        """Return the names of the layers of the stem and of each stack."""
        parts = ("preact_bn", "1_conv", "1_bn", "2_conv", "2_bn", "3_conv")
        stages = [["conv1_conv"]]
        for stack, units in enumerate(self.units, start=2):
            names = [
                f"conv{stack}_block{i + 1}_{x}" for i in range(units) for x in parts
            ]
            stages.append([f"conv{stack}_block1_0_conv", *names])
        stages[-1].append("post_bn")
        return tuple(map(tuple, stages))

    def run_stage(self, x: Maps, stage: int, *, train: bool) -> Maps:
        """Compute the stem, or a stack of units."""
        conv = functools.partial(_conv, padding="VALID", dtype=self.dtype)
        plain = functools.partial(conv, use_bias=False)
        options = {"train": train, "dtype": self.dtype, "epsilon": 1.001e-5}
        activate = functools.partial(layers.norm_relu, **options)
        if stage == 0:
            x = imagenet.pad(x, 3)
            x = conv(self.channels, (7, 7), (2, 2), name="conv1_conv")(x)
            return layers.max_pool(imagenet.pad(x, 1), 3, 2)
        channels, units = self.channels * 2 ** (stage - 1), self.units[stage - 1]
        for unit in range(1, units + 1):
            name = f"conv{stage + 1}_block{unit}"
            halves = unit == units and stage < len(self.units)
            strides = (2, 2) if halves else (1, 1)
            y = activate(x, f"{name}_preact_bn")
            if unit == 1:
                x = conv(4 * channels, (1, 1), name=f"{name}_0_conv")(y)
            if halves:
                x = layers.max_pool(x, 1, 2)
            y = plain(channels, (1, 1), name=f"{name}_1_conv")(y)
            y = imagenet.pad(activate(y, f"{name}_1_bn"), 1)
            y = plain(channels, (3, 3), strides, name=f"{name}_2_conv")(y)
            y = activate(y, f"{name}_2_bn")
            x = x + conv(4 * channels, (1, 1), name=f"{name}_3_conv")(y)
        return activate(x, "post_bn") if stage == len(self.units) else x
