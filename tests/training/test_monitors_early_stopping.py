"""Early stopping: as Keras's callback, its best weights too; off; refused."""

import functools
import os
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mnist_jax.config import EarlyStopping, parse
from mnist_jax.errors import UserError
from mnist_jax.training import monitors
from tests.conftest import assert_trees_equal
from tests.support.monitored_figures import (
    BAD,
    LENGTH,
    MOVES,
    all_figures,
    figures,
    mode,
    padded,
)

os.environ.setdefault("KERAS_BACKEND", "jax")
import keras  # reads the variable


def make_early_stopping(**fields):
    config = parse(fields, EarlyStopping, flag="early")
    return monitors.EarlyStoppingMachine(config, flag="early")


def weights_of(epoch):
    """Weights and statistics that tell their epoch."""
    epoch = jnp.asarray(epoch, jnp.float32)
    return {"w": 10 * epoch}, {"mean": -epoch}


@functools.cache
def our_stop(**fields):
    """A function from a padded sequence to what is known after each epoch."""
    machine = make_early_stopping(**fields)

    def epoch(state, now):
        number, value = now
        known = all_figures(fields["monitor"], value)
        state = machine.update(state, known, number, *weights_of(number))
        return state, (state.stopped, state.best)

    def stop(values, first):
        numbers = first + jnp.arange(LENGTH)
        start = machine.init(*weights_of(0))
        return jax.lax.scan(epoch, start, (numbers, values))[1]

    return jax.jit(stop)


class KerasModel:
    """What EarlyStopping needs of one."""

    def __init__(self):
        self.stop_training = False
        self.weights = [0.0]

    def get_weights(self):
        return self.weights

    def set_weights(self, weights):
        self.weights = weights


def keras_stop(values, *, monitor, patience, min_delta, restore_best):
    """The last epoch, the best one and the weights at the end, as epochs from 1."""
    callback = keras.callbacks.EarlyStopping(
        monitor=monitor,
        mode=mode(monitor),
        patience=patience,
        min_delta=min_delta,
        restore_best_weights=restore_best,
    )
    model = KerasModel()
    callback.set_model(model)
    callback.on_train_begin()
    epoch = 0
    for epoch, value in enumerate(values):
        model.weights = [epoch + 1]
        callback.on_epoch_end(epoch, {monitor: value})
        if model.stop_training:
            break
    callback.on_train_end()
    return model.stop_training, epoch + 1, callback.best_epoch + 1, model.weights[0]


EARLY_STOPPINGS = [
    pytest.param(
        {
            "monitor": ("val_loss", "val_accuracy", "train_loss")[number % 3],
            "patience": patience,
            "min_delta": (0.0, 1e-4, 0.03)[number // 2 % 3],
            "restore_best": bool(restore_best),
        },
        id=f"patience {patience}, {'best' if restore_best else 'last'}",
    )
    for number, (patience, restore_best) in enumerate(np.ndindex(5, 2))
]


@pytest.mark.parametrize("fields", EARLY_STOPPINGS)
@settings(max_examples=150, deadline=None)
@given(moves=MOVES, first=st.sampled_from([1, 8]))
@example(moves=BAD, first=1)
@example(moves=[("is", np.nan), *BAD[1:]], first=1)
@example(moves=[("is", 0.5)] + [("edge", 0), ("edge", 1), ("edge", -1)] * 5, first=8)
# Where the sum with 0.03 is rounded, and the difference would not be.
@example(moves=[("is", 1.006), *[("edge", -1)] * 4], first=1)
def test_early_stopping_is_that_of_keras(fields, moves, first):
    """Also in a later phase, whose first epoch is not the run's."""
    values = figures(moves, fields["monitor"], fields["min_delta"])
    stops, last, best_epoch, weights = keras_stop(values, **fields)
    stopped, best = jax.tree.map(
        np.asarray, our_stop(**fields)(padded(values), np.int32(first))
    )
    end = last - 1
    assert stopped[end] == stops and not stopped[:end].any()
    assert best.epoch[end] - first + 1 == best_epoch
    if stops:
        assert stopped[end:].all()  # for good, whatever comes
    if fields["restore_best"]:
        assert best.params["w"][end] == 10 * (weights + first - 1)
        assert best.batch_stats["mean"][end] == -(weights + first - 1)
    else:
        assert jax.tree.leaves((best.params, best.batch_stats)) == []


def test_several_replicas_stop_on_their_own():
    fields: Any = EARLY_STOPPINGS[3].values[0]
    sequences = np.random.default_rng(0).integers(0, 9, (5, LENGTH)) / np.float32(8)
    stop = our_stop(**fields)
    together = jax.vmap(stop, in_axes=(0, None))(jnp.asarray(sequences), np.int32(1))
    alone = [stop(jnp.asarray(values), np.int32(1)) for values in sequences]
    assert_trees_equal(together, jax.tree.map(lambda *x: np.stack(x), *alone))
    assert len(np.unique(np.asarray(together[0]).sum(axis=1))) > 1


def test_an_early_stopping_that_is_off_never_stops():
    machine = make_early_stopping(patience=0)
    state = machine.init(*weights_of(0))
    for epoch in (1, 2, 3):
        value = all_figures("val_loss", jnp.float32(1.0))
        state = machine.update(state, value, jnp.int32(epoch), *weights_of(epoch))
    assert not state.stopped
    assert_trees_equal(state, machine.init(*weights_of(0)))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"monitor": "loss"}, r"monitor=loss: unknown \(known: none, train_loss"),
        ({"patience": -1}, "patience=-1: must be at least 0"),
        ({"min_delta": -1.0}, "min_delta=-1.0: must be at least 0"),
        ({"min_delta": float("nan")}, "min_delta=nan: "),
        ({"restore_best": True}, r"restore_best: early\.monitor must say"),
    ],
)
def test_early_stopping_refuses(fields, message):
    with pytest.raises(UserError, match=rf"^early\.{message}"):
        make_early_stopping(**fields)
