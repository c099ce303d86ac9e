"""The report's double CNN: two pairs of convolutions, no normalisation."""

import functools

import flax.linen as nn
import jax.numpy as jnp
from jax.typing import DTypeLike

from mnist_jax.models.layers import Conv, Dense, Dropout, max_pool
from mnist_jax.models.outputs import Images, Logits


class DoubleCNN(nn.Module):
    """Two blocks of two ReLU convolutions, one dense layer; 887,530 parameters."""

    num_classes: int
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, images: Images, *, train: bool) -> Logits:
        """Map images to logits. The features are the 256 of `dense1`."""
        conv = functools.partial(Conv, relu=True, dtype=self.dtype)
        dense = functools.partial(Dense, dtype=self.dtype)
        x = images
        for block, (channels, size) in enumerate(((32, 5), (64, 3)), start=1):
            for layer in (1, 2):
                name = f"block{block}_conv{layer}"
                x = conv(channels, (size, size), name=name)(x)
            x = max_pool(x, 2)
            x = Dropout(0.25)(x, train=train)
        x = x.reshape(x.shape[0], -1)
        x = nn.relu(dense(256, name="dense1")(x))
        self.sow("intermediates", "features", x)
        x = Dropout(0.5)(x, train=train)
        return dense(self.num_classes, name="logits")(x)
