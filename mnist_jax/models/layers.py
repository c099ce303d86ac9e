"""The building blocks that every network here is made of, with Keras's initialisers.

Keras starts kernels from Glorot's uniform distribution and biases from zero where Flax
would draw kernels from LeCun's normal distribution. Strides of a pool are its window
here, as in Keras; in Flax they would be 1.
"""

import functools

import flax.linen as nn
from jaxtyping import Array, Float

# Glorot and Bengio, 2010: https://proceedings.mlr.press/v9/glorot10a.html
_KERNEL_INIT = nn.initializers.glorot_uniform()

Conv = functools.partial(nn.Conv, kernel_init=_KERNEL_INIT)
Dense = functools.partial(nn.Dense, kernel_init=_KERNEL_INIT)


def average_pool(
    x: Float[Array, "batch height width channels"], size: int
) -> Float[Array, "batch height_out width_out channels"]:
    """Average over windows of `size` x `size` that do not overlap.

    Rows and columns beyond the last whole window are left out.
    """
    return nn.avg_pool(x, window_shape=(size, size), strides=(size, size))
