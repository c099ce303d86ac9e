"""ResNet with pre-activation: a path from the first to the last layer without ReLUs.

He, Zhang, Ren, Sun, 2016: https://arxiv.org/abs/1603.05027
"""

import functools
from typing import ClassVar

import flax.linen as nn
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from mnist_jax.models.layers import KERNEL_INITS, BatchNorm, Conv, Dense


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
    def __call__(
        self, images: Float[Array, "batch height width channels"], *, train: bool
    ) -> Float[Array, "batch classes"]:
        """Map images to logits. The features are the 128 channels' means."""
        init = KERNEL_INITS["he_normal"]
        options = {"kernel_init": init, "dtype": self.dtype}
        conv = functools.partial(Conv, use_bias=False, **options)

        def activate(x: Array, name: str) -> Array:
            norm = BatchNorm(relu=True, dtype=self.dtype, name=name)
            return norm(x, use_running_average=not train)

        x = conv(self.channels[0], (3, 3), name="stem_conv")(images)
        for stage, channels in enumerate(self.channels, start=1):
            for unit in range(1, self.units[stage - 1] + 1):
                name, strides, shortcut = f"stage{stage}_unit{unit}", (1, 1), x
                x = activate(x, f"{name}_norm1")
                if stage > 1 and unit == 1:
                    strides = (2, 2)
                    project = conv(channels, (1, 1), strides, name=f"{name}_shortcut")
                    shortcut = project(x)
                x = conv(channels, (3, 3), strides, name=f"{name}_conv1")(x)
                x = activate(x, f"{name}_norm2")
                x = shortcut + conv(channels, (3, 3), name=f"{name}_conv2")(x)
        x = activate(x, "last_norm").astype(jnp.float32).mean(axis=(1, 2))
        self.sow("intermediates", "features", x)
        return Dense(self.num_classes, kernel_init=init, name="logits")(x)
