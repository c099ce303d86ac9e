"""DenseNet, each of whose layers sees the output of every layer before it in a block.

Huang, Liu, van der Maaten, Weinberger, 2017: https://arxiv.org/abs/1608.06993
"""

import functools
from typing import ClassVar

import flax.linen as nn
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from mnist_jax.models import layers
from mnist_jax.models.layers import KERNEL_INITS, BatchNorm, Conv, Dense


class DenseNet(nn.Module):
    """DenseNet-BC with two blocks, of 6 and 8 layers, for small images.

    239,466 parameters, of which 5,216 are BatchNorm's statistics. A layer computes
    `growth` channels from all that its block has so far, by BN-ReLU-conv of 1x1 to four
    times as many ("B", for bottleneck) and BN-ReLU-conv of 3x3. Between blocks, a 1x1
    convolution halves the channels ("C", for compression), and a pool the image.

    The paper's smallest network for CIFAR has three blocks of 16 layers that add 12
    channels each. Images of 28x28 take fewer layers, and wider ones compute faster. As
    in the paper's networks for ImageNet, a pool precedes the blocks, which therefore
    compute at 14x14 and 7x7.
    """

    layers_of_blocks: ClassVar[tuple[int, ...]] = (6, 8)
    growth: ClassVar[int] = 16
    num_classes: int
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self, images: Float[Array, "batch height width channels"], *, train: bool
    ) -> Float[Array, "batch classes"]:
        """Map images to logits. The features are the 192 channels' means."""
        init = KERNEL_INITS["he_normal"]
        options = {"kernel_init": init, "dtype": self.dtype}
        conv = functools.partial(Conv, use_bias=False, **options)

        def activate(x: Array, name: str) -> Array:
            norm = BatchNorm(relu=True, dtype=self.dtype, name=name)
            return norm(x, use_running_average=not train)

        x = conv(2 * self.growth, (5, 5), name="stem_conv")(images)
        x = layers.max_pool(x, 2)
        for block, count in enumerate(self.layers_of_blocks, start=1):
            if block > 1:
                name, half = f"transition{block - 1}", x.shape[-1] // 2
                x = activate(x, f"{name}_norm")
                x = conv(half, (1, 1), name=f"{name}_conv")(x)
                x = layers.average_pool(x, 2)
            for layer in range(1, count + 1):
                name = f"block{block}_layer{layer}"
                new = activate(x, f"{name}_norm1")
                new = conv(4 * self.growth, (1, 1), name=f"{name}_conv1")(new)
                new = activate(new, f"{name}_norm2")
                new = conv(self.growth, (3, 3), name=f"{name}_conv2")(new)
                x = jnp.concatenate([x, new], axis=-1)
        x = activate(x, "last_norm").astype(jnp.float32).mean(axis=(1, 2))
        self.sow("intermediates", "features", x)
        return Dense(self.num_classes, kernel_init=init, name="logits")(x)
