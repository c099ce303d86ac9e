"""LeNet-5, as the report trains it.

LeCun, Bottou, Bengio, Haffner: "Gradient-based learning applied to document
recognition", Proceedings of the IEEE 86(11), 1998. Unlike in the paper, but as in most
tutorials, every map of the second convolution sees all maps of the first, pools have no
weights, and a softmax replaces the radial units.
"""

import functools

import flax.linen as nn
import jax.numpy as jnp
from jax.typing import DTypeLike

from mnist_jax.models.layers import Conv, Dense, average_pool
from mnist_jax.models.outputs import Images, Logits


class LeNet5(nn.Module):
    """Two tanh convolutions, two average pools, three dense layers: 61,706 weights."""

    num_classes: int
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, images: Images, *, train: bool) -> Logits:
        """Map images to logits, the same in training. The features are 84."""
        del train
        conv = functools.partial(Conv, padding="VALID", dtype=self.dtype)
        dense = functools.partial(Dense, dtype=self.dtype)
        x = jnp.pad(images, ((0, 0), (2, 2), (2, 2), (0, 0)))  # the paper's 32 x 32
        x = nn.tanh(conv(6, (5, 5), name="conv1")(x))
        x = average_pool(x, 2)
        x = nn.tanh(conv(16, (5, 5), name="conv2")(x))
        x = average_pool(x, 2)
        x = x.reshape(x.shape[0], -1)
        x = nn.tanh(dense(120, name="dense1")(x))
        x = nn.tanh(dense(84, name="dense2")(x))
        self.sow("intermediates", "features", x)
        return dense(self.num_classes, name="logits")(x)
