"""The random streams of a run, and the order of the images."""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int32, PRNGKeyArray, UInt32

from mnist_jax.devices.settings import PRNG


class Keys(NamedTuple):
    """A run's random streams; none depends on how another one is used."""

    init: PRNGKeyArray
    order: PRNGKeyArray
    step: PRNGKeyArray


def make_keys(seed: int) -> Keys:
    """Derive the streams of a run from its seed."""
    # `jax.random.key` would add JAX_RANDOM_SEED_OFFSET to the seed.
    key = jax.random.wrap_key_data(jnp.array([0, seed], jnp.uint32), impl=PRNG)
    return Keys(
        *(jax.random.fold_in(key, stream) for stream in range(len(Keys._fields)))
    )


def stack_keys(keys: Sequence[Keys], count: int) -> Keys:
    """Return the streams of several seeds as one, with a leading axis.

    The last are repeated up to `count`; if it is 1, there is no axis.
    """
    if count == 1:
        return keys[0]
    filled = [*keys, *[keys[-1]] * (count - len(keys))]
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *filled)


def epoch_order(
    key: PRNGKeyArray,
    epoch: int | Int32[Array, ""],
    *,
    size: int,
    batch_size: int,
    steps: int = 0,
    permutation: Callable[..., Array | np.ndarray] = jax.random.permutation,
) -> Int32[Array, "steps batch"]:
    """Draw the images of each step of an epoch.

    It is a function of `key` and `epoch` alone, so that a resumed run sees the same
    batches. A pass over the `size` images takes each at most once: it leaves out the
    `size % batch_size` at the end of its permutation. An epoch makes as many passes as
    its `steps` need; 0 steps are one pass. `permutation` is `jax.random.permutation` or
    `permutation_on_host`.
    """
    per_pass = size // batch_size
    steps = steps or per_pass
    key = jax.random.fold_in(key, epoch)
    keys = [key, *(jax.random.fold_in(key, n) for n in range(1, -(-steps // per_pass)))]
    used = per_pass * batch_size
    order = [permutation(each, size)[:used] for each in keys]
    whole = jnp.concatenate(order).reshape(-1, batch_size)
    return whole[:steps].astype(jnp.int32)


def permutation_on_host(key: PRNGKeyArray, size: int) -> UInt32[np.ndarray, " size"]:
    """Return `jax.random.permutation(key, size)`, sorted by NumPy.

    XLA takes ten seconds of a CPU to sort ten million numbers three times.
    """
    order = np.arange(size, dtype=np.uint32)
    pairs = np.empty(size, "<u8")
    places, bits = pairs.view("<u4").reshape(size, 2).T
    for _ in range(math.ceil(3 * math.log(max(1, size)) / math.log(2**32 - 1))):
        key, bits_key = jax.random.split(key)
        bits[:] = jax.random.bits(bits_key, (size,), jnp.uint32)
        # No two pairs are equal: any sort is a stable one.
        places[:] = np.arange(size, dtype=np.uint32)
        pairs.sort()
        order = order[places]
    return order
