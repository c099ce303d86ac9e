"""The report's triple CNN: three pairs of convolutions, with BatchNorm."""

import functools

import flax.linen as nn
import jax.numpy as jnp
from jax.typing import DTypeLike

from mnist_jax.models.layers import BatchNorm, Conv, Dense, Dropout, max_pool
from mnist_jax.models.outputs import Images, Logits


class TripleCNN(nn.Module):
    """Three blocks of two ReLU convolutions, three dense layers.

    1,029,418 parameters, of which 2,112 are BatchNorm's statistics. BatchNorm follows
    the second ReLU of each block and the ReLU of each dense layer.
    """

    num_classes: int
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, images: Images, *, train: bool) -> Logits:
        """Map images to logits. The features are the 64 of `dense3`."""
        conv = functools.partial(Conv, relu=True, dtype=self.dtype)
        dense = functools.partial(Dense, dtype=self.dtype)
        norm = functools.partial(BatchNorm, dtype=self.dtype)
        x = images
        for block, channels in enumerate((32, 64, 128), start=1):
            for layer in (1, 2):
                name = f"block{block}_conv{layer}"
                x = conv(channels, (3, 3), name=name)(x)
            x = norm(name=f"block{block}_norm")(x, use_running_average=not train)
            x = max_pool(x, 2)  # 28 to 14 to 7 to 3: the last row and column drop out
            x = Dropout(0.25)(x, train=train)
        x = x.reshape(x.shape[0], -1)
        for layer, (units, rate) in enumerate(((512, 0.5), (256, 0.4), (64, 0.3)), 1):
            x = nn.relu(dense(units, name=f"dense{layer}")(x))
            x = norm(name=f"dense{layer}_norm")(x, use_running_average=not train)
            if units == 64:
                self.sow("intermediates", "features", x)
            x = Dropout(rate)(x, train=train)
        return dense(self.num_classes, name="logits")(x)
