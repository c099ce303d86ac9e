"""Operations over a whole batch, whether or not it is divided into shards.

On one device, a batch is whole. On several, `jax.shard_map` or `jax.pmap` runs a
function once per device, on a shard of the batch. Models and steps use these functions,
which detect the mapped axis during tracing, so that all give the same results.
"""

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Int32

from mnist_jax.tree import Tree

AXIS = "data"
"""The name of the axis along which devices share a batch."""


def count() -> int:
    """Return the number of shards, which is 1 for a whole batch."""
    try:
        return lax.axis_size(AXIS)
    except NameError:  # the axis is not mapped
        return 1


def mean(tree: Tree) -> Tree:
    """Average the means over equal shards: the means over the whole batch."""
    return lax.pmean(tree, AXIS) if count() > 1 else tree


def index() -> Array | int:
    """Return the index of this shard."""
    return lax.axis_index(AXIS) if count() > 1 else 0


def indices(size: int) -> Int32[Array, " size"]:
    """Return the indices in the whole batch of this shard's `size` elements."""
    return index() * size + jnp.arange(size, dtype=jnp.int32)


def local(batch: Array, size: int) -> Array:
    """Return this shard's `size` elements of an array for the whole batch."""
    if count() == 1:
        return batch
    return lax.dynamic_slice_in_dim(batch, index() * size, size)


def gather(shard: Array) -> Array:
    """Concatenate the shards, on every device."""
    return lax.all_gather(shard, AXIS, tiled=True) if count() > 1 else shard
