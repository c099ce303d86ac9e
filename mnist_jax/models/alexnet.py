"""AlexNet: a small one for 28x28 images."""

import functools

import flax.linen as nn
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from mnist_jax.models.layers import KERNEL_INITS, Conv, Dense, Dropout, max_pool


class AlexNet(nn.Module):
    """Five convolutions, three overlapping pools, three dense layers.

    1,138,058 parameters. Scaled down from 60 million: the first kernels have 5x5 pixels
    and no stride, since a digit of 28x28 has no detail to spare; the channels, 96 to
    384 in the paper, and the 4,096 units of the dense layers, fit ten classes and two
    cores. Pools are padded, so that 28 becomes 14, 7 and 4.

    Without the paper's local response normalisation, which doubles the time of a step
    on a CPU, and which later networks dropped since it did not help them (section 4.1
    of https://arxiv.org/abs/1409.1556).

    Krizhevsky, Sutskever, Hinton: "ImageNet classification with deep convolutional
    neural networks", NeurIPS 2012.
    """

    num_classes: int
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self, images: Float[Array, "batch height width channels"], *, train: bool
    ) -> Float[Array, "batch classes"]:
        """Map images to logits. The features are the 256 of `dense2`."""
        options = {"kernel_init": KERNEL_INITS["he_normal"], "dtype": self.dtype}
        conv = functools.partial(Conv, relu=True, **options)
        dense = functools.partial(Dense, **options)
        x = max_pool(conv(32, (5, 5), name="conv1")(images), 3, 2, "SAME")
        x = max_pool(conv(96, (5, 5), name="conv2")(x), 3, 2, "SAME")
        x = conv(128, (3, 3), name="conv3")(x)
        x = conv(128, (3, 3), name="conv4")(x)
        x = max_pool(conv(96, (3, 3), name="conv5")(x), 3, 2, "SAME")
        x = x.reshape(x.shape[0], -1)
        for layer, units in enumerate((384, 256), start=1):
            x = Dropout(0.5)(x, train=train)
            x = nn.relu(dense(units, name=f"dense{layer}")(x))
        self.sow("intermediates", "features", x)
        return dense(self.num_classes, name="logits")(x)
