"""A function of a whole batch, written so that several devices can share the batch.

Where JAX sees the whole program and divides it by itself (`jit` over a mesh), a batch
is a batch and there is nothing to do. Under `jax.pmap` a function runs once for each
device, on the device's share of the batch, its shard. What a model or a step computes
over a batch goes through these functions, so that it comes to the same. They know by
JAX's own books whether the axis `data` is being mapped while a function is traced.
"""

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Int32

from mnist_jax.typing import Tree

AXIS = "data"
"""The name of the axis that devices share batches along."""


def count() -> int:
    """Return how many shards the batch has: 1 unless the axis is being mapped."""
    try:
        return lax.axis_size(AXIS)
    except NameError:  # JAX's word for an axis that is not there
        return 1


def axis_name() -> str | None:
    """Return what `flax.linen.BatchNorm` is to average over; None for one shard."""
    return AXIS if count() > 1 else None


def mean(tree: Tree) -> Tree:
    """Average means over shards of one size: the means over the whole batch."""
    return lax.pmean(tree, AXIS) if count() > 1 else tree


def places(size: int) -> Int32[Array, " size"]:
    """Return the places in the whole batch of this shard's `size` elements."""
    first = lax.axis_index(AXIS) * size if count() > 1 else 0
    return first + jnp.arange(size, dtype=jnp.int32)


def own(batch: Array, size: int) -> Array:
    """Return this shard's `size` elements of something made for the whole batch."""
    if count() == 1:
        return batch
    return lax.dynamic_slice_in_dim(batch, lax.axis_index(AXIS) * size, size)


def gather(shard: Array) -> Array:
    """Put the shards together, in order: the whole batch, on every device."""
    return lax.all_gather(shard, AXIS, tiled=True) if count() > 1 else shard
