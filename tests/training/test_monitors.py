"""The best so far against min and max."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mnist_jax.training.monitors import MONITORS, Best, make_update_best

# Few distinct values, so that ties are common; exact in float32.
VALUES = st.lists(st.integers(0, 5).map(lambda n: n / 8), min_size=1, max_size=12)


@functools.cache
def update_best(monitor):
    return jax.jit(make_update_best(monitor=monitor))


def run(monitor, values):
    update = update_best(monitor)
    best = Best.none({"w": jnp.zeros(())}, {})
    for epoch, value in enumerate(values, start=1):
        metrics = {name: np.float32(0.25) for name in MONITORS}
        metrics[monitor] = np.float32(value)
        weights = {"w": jnp.float32(epoch * 10)}
        best = update(best, metrics, np.int32(epoch), weights, {})
    return best


@pytest.mark.parametrize("monitor", list(MONITORS))
@settings(max_examples=60, deadline=None)
@given(values=VALUES)
def test_best_is_the_first_of_the_best(monitor, values):
    best = run(monitor, values)
    wanted = max(values) if monitor == "val_accuracy" else min(values)
    assert float(best.value) == wanted
    assert int(best.epoch) == values.index(wanted) + 1
    assert float(best.params["w"]) == 10 * int(best.epoch)


def test_best_keeps_batchnorm_statistics_with_the_weights():
    update = update_best("val_loss")
    best = Best.none({"w": jnp.zeros(())}, {"mean": jnp.zeros(())})
    for epoch, loss in enumerate([2.0, 1.0, 3.0], start=1):
        metrics = {name: np.float32(loss) for name in MONITORS}
        number = jnp.float32(epoch)
        best = update(best, metrics, epoch, {"w": number}, {"mean": -number})
    assert (float(best.params["w"]), float(best.batch_stats["mean"])) == (2.0, -2.0)


def test_several_replicas_keep_their_own_best():
    """The machines are to run under vmap over seeds: no Python `if` on a value."""
    update = make_update_best(monitor="val_loss")
    bests = jax.vmap(lambda w: Best.none({"w": w}, {}))(jnp.zeros(3))
    for epoch, losses in enumerate([[3.0, 1.0, 2.0], [2.0, 2.0, 2.0]], start=1):
        metrics = {name: jnp.array(losses) for name in MONITORS}
        weights = {"w": jnp.full(3, float(epoch))}
        bests = jax.vmap(update, in_axes=(0, 0, None, 0, None))(
            bests, metrics, np.int32(epoch), weights, {}
        )
    np.testing.assert_array_equal(bests.epoch, [2, 1, 1])
    np.testing.assert_array_equal(bests.params["w"], [2.0, 1.0, 1.0])
