"""The state, step by step and in calls of many; its moving average; its phases."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mnist_jax.training import state, step
from mnist_jax.training.keys import epoch_order
from tests.conftest import assert_trees_equal
from tests.support import augmenting
from tests.support.training_parts import (
    EVERYTHING,
    KEY,
    TINY,
    as_batch,
    assert_close,
    largest_difference,
    make_phase,
    make_state,
    make_step,
)

pytestmark = pytest.mark.usefixtures("little_optimized")


@functools.cache
def everything(length):
    """A call of `length` steps with all that a config can turn on."""
    augment_fn = augmenting.create(rotation=10.0, shift=0.1)
    train_step = make_step(
        TINY.apply,
        make_phase(**EVERYTHING),
        augment_fn=lambda key, images, *_: augment_fn(key, images),
    )
    return jax.jit(step.make_train_steps(train_step=train_step, steps=length))


def run(small, lengths):
    """An epoch cut into calls: the states after them, and all steps' metrics."""
    data = as_batch(small.train)
    indices = epoch_order(jax.random.key(2), 1, size=64, batch_size=12)
    current, first = make_state(TINY, make_phase(**EVERYTHING)), 0
    states, metrics = [current], []
    for length in lengths:
        current, told = everything(length)(current, data, indices, np.int32(first), KEY)
        states.append(current)
        metrics.append(told)
        first += length
    return states, jax.tree.map(lambda *x: np.concatenate(x), *metrics)


@pytest.fixture(scope="module")
def one_by_one(small):
    """The states before and after each of the epoch's five steps, and the metrics."""
    return run(small, [1] * 5)


# -- the beginning


def test_a_run_begins_with_the_weights_that_an_optimized_program_draws():
    phase = make_phase(**EVERYTHING)
    begun = state.make_begin(TINY, phase)(KEY)
    assert_trees_equal((begun.params, begun.batch_stats), jax.jit(TINY.init)(KEY))
    assert_trees_equal(begun, state.create(begun.params, begun.batch_stats, phase))
    shapes = state.shapes(TINY, phase)
    assert jax.tree.structure(begun) == jax.tree.structure(shapes)
    for array, shape in zip(*map(jax.tree.leaves, (begun, shapes)), strict=True):
        assert (array.shape, array.dtype) == (shape.shape, shape.dtype)


def test_a_run_begins_with_the_weights_that_are_put_in_their_place():
    def put(params, batch_stats):
        return jax.tree.map(lambda x: np.full(x.shape, 7, x.dtype), params), batch_stats

    begun = state.make_begin(TINY, make_phase(), put)(KEY)
    assert all((leaf == 7).all() for leaf in jax.tree.leaves(begun.params))
    assert_trees_equal(begun.batch_stats, jax.jit(TINY.init)(KEY)[1])


# -- the moving average


def test_the_moving_average_has_its_recurrence_and_is_what_is_judged(one_by_one):
    """Written out in NumPy, its warm-up included, of the weights and the statistics."""
    states, _ = one_by_one
    average = jax.tree.map(np.float64, (states[0].params, states[0].batch_stats))
    assert_trees_equal(states[0].weights, (states[0].params, states[0].batch_stats))
    memories = []
    for t, now in enumerate(states[1:], start=1):
        memories.append(min(0.3, (1 + t) / (10 + t)))
        average = jax.tree.map(
            lambda a, b: memories[-1] * a + (1 - memories[-1]) * np.float64(b),
            average,
            (now.params, now.batch_stats),
        )
        assert_close(now.ema, average, 1e-6)
        assert_trees_equal(now.weights, now.ema)
    assert memories[0] < memories[1] < memories[2] == memories[3]
    assert largest_difference(states[-1].ema[0], states[-1].params) > 1e-4
    assert largest_difference(states[-1].ema[1], states[-1].batch_stats) > 1e-4


# -- from phase to phase

ADAMW = {"optimizer.name": "adamw", "batch_size": 8}


def trained(one_by_one, *, best_epoch=4):
    """A state at the end of a phase, in which all weights differ."""
    current = one_by_one[0][-1]

    def moved(offset):
        tree = (current.params, current.batch_stats)
        params, batch_stats = jax.tree.map(lambda x: x + offset, tree)
        return {"params": params, "batch_stats": batch_stats}

    best = current.best.replace(
        value=jnp.float32(0.5), epoch=jnp.int32(best_epoch), **moved(1.0)
    )
    early = current.early_stopping
    plateau = current.plateau
    return current.replace(
        best=best,
        plateau=plateau._replace(
            plateau_count=jnp.int32(5),
            best_value=jnp.float32(0.5),
            scale=jnp.float32(0.1),
        ),
        early_stopping=early.replace(
            stopped=jnp.bool_(True),
            wait=jnp.int32(6),
            best=early.best.replace(epoch=jnp.int32(3), **moved(2.0)),
        ),
    )


def weights_in(tree):
    return tree.params, tree.batch_stats


@pytest.mark.parametrize("restore_best", [True, False])
@pytest.mark.parametrize("averaged", [True, False])
def test_a_phase_ends_with_the_weights_that_it_is_judged_by(
    one_by_one, restore_best, averaged
):
    current = trained(one_by_one)
    current = current if averaged else current.replace(ema=())
    phase = make_phase(**EVERYTHING | {"early_stopping.restore_best": restore_best})
    ended = state.end_phase(current, phase)
    expected = (
        weights_in(current.early_stopping.best)
        if restore_best
        else current.ema
        if averaged
        else weights_in(current)
    )
    assert_trees_equal(weights_in(ended), expected)
    assert_trees_equal(ended.weights, expected)
    assert ended.ema == ()
    for name in ("step", "phase_step", "opt_state", "plateau", "best"):
        assert_trees_equal(getattr(ended, name), getattr(current, name))


@pytest.mark.parametrize("start_from", ["last", "best"])
@pytest.mark.parametrize("ema_decay", [0.0, 0.99])
@pytest.mark.parametrize("restore_best", [True, False])
def test_a_new_phase_begins_afresh_with_the_weights_it_was_told(
    one_by_one, start_from, ema_decay, restore_best
):
    """Those that the phase before ended with, its average handed over, or the best."""
    first = make_phase(**EVERYTHING | {"early_stopping.restore_best": restore_best})
    watched = {
        "early_stopping.monitor": "val_loss",
        "early_stopping.restore_best": True,
    }
    phase = make_phase(
        **ADAMW | watched, **{"start_from": start_from, "ema_decay": ema_decay}
    )
    before = trained(one_by_one)
    ended = state.end_phase(before, first)
    current = state.begin_phase(ended, phase)
    expected = weights_in(before.best) if start_from == "best" else weights_in(ended)
    assert_trees_equal(weights_in(current), expected)
    assert_trees_equal(current.weights, expected)
    assert_trees_equal(current.ema, expected if ema_decay else ())
    assert_trees_equal(current.opt_state, phase.optimizer.init(expected[0]))
    assert_trees_equal(current.plateau, phase.plateau.init())
    assert_trees_equal(current.early_stopping, phase.early_stopping.init(*expected))
    assert int(current.step) == 5  # so that no random draw comes twice
    assert int(current.phase_step) == 0
    assert_trees_equal(current.best, before.best)
    assert_no_shared_buffers(current)


def assert_no_shared_buffers(current):
    """Neither with each other nor else: the step is given them all, each once."""
    pointers = [leaf.unsafe_buffer_pointer() for leaf in jax.tree.leaves(current)]
    assert len(set(pointers)) == len(pointers)


def test_a_second_phase_averages_with_a_short_memory_again(small, one_by_one):
    """The average's warm-up counts the phase's steps."""
    phase = make_phase(**EVERYTHING)
    before = state.begin_phase(state.end_phase(trained(one_by_one), phase), phase)
    data = as_batch(small.train)
    indices = epoch_order(jax.random.key(2), 2, size=64, batch_size=12)
    after, _ = everything(1)(before, data, indices, np.int32(0), KEY)
    expected = jax.tree.map(
        lambda a, b: 2 / 11 * a + 9 / 11 * b, before.ema, weights_in(after)
    )
    assert_close(after.ema, expected, 1e-6)
    assert largest_difference(after.params, before.params) > 1e-4
