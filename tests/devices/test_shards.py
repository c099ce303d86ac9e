"""What is computed over a batch, where the batch is whole and where it is shared."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mnist_jax.devices import shards


def shared(function, count):
    """`function` of a batch, run once for each of `count` shards; their results."""

    def run(batch):
        parts = batch.reshape(count, -1, *batch.shape[1:])
        return jax.vmap(function, axis_name=shards.AXIS)(parts)

    return run


BATCH = jnp.arange(24.0).reshape(12, 2) ** 2


@pytest.mark.parametrize("count", [1, 2, 3, 4, 6, 12])
def test_shards_come_to_what_the_whole_batch_comes_to(count):
    size = 12 // count

    def function(shard):
        assert shards.count() == count
        return {
            "mean": shards.mean({"x": shard.mean(axis=0)})["x"],
            "indices": shards.indices(size),
            "local": shards.local(BATCH, size),
            "whole": shards.gather(shard),
        }

    found = shared(function, count)(BATCH)
    for shard in range(count):
        np.testing.assert_allclose(found["mean"][shard], BATCH.mean(axis=0), rtol=1e-6)
        np.testing.assert_array_equal(found["whole"][shard], BATCH)
    np.testing.assert_array_equal(found["indices"].ravel(), np.arange(12))
    np.testing.assert_array_equal(found["local"].reshape(12, 2), BATCH)
