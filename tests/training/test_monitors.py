"""The monitors: equal to Keras's callbacks, for each seed by itself."""

import functools
import os
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mnist_jax.config import EarlyStopping, Plateau, parse
from mnist_jax.errors import UserError
from mnist_jax.training import monitors
from tests.conftest import assert_trees_equal
from tests.support.monitored_figures import (
    BAD,
    EDGY_MOVES,
    LENGTH,
    MOVES,
    all_figures,
    figures,
    mode,
    padded,
)

os.environ.setdefault("KERAS_BACKEND", "jax")
import keras  # reads the variable

pytestmark = pytest.mark.usefixtures("little_optimized")

RATE = 1e-3


def weights_of(epoch):
    """Weights and statistics that identify their epoch."""
    epoch = jnp.asarray(epoch, jnp.float32)
    return {"w": 10 * epoch}, {"mean": -epoch}


# -- the best epoch


@functools.cache
def best_after_each(name):
    monitor = monitors.keep_best(name)

    def epoch(state, now):
        number, value = now
        state = monitor.update(
            state, all_figures(name, value), number, *weights_of(number)
        )
        return state, state

    numbers = 1 + jnp.arange(LENGTH)
    start = monitor.init(*weights_of(0))
    return jax.jit(lambda values: jax.lax.scan(epoch, start, (numbers, values))[1])


@pytest.mark.parametrize("name", list(monitors.SIGNS))
@settings(max_examples=60, deadline=None)
# Few distinct values, so that ties are common; exact in float32.
@given(values=st.lists(st.integers(0, 5).map(lambda n: n / 8), min_size=1, max_size=12))
def test_the_best_is_the_first_of_the_best(name, values):
    states = best_after_each(name)(padded(np.float32(values)))
    best = jax.tree.map(lambda x: x[len(values) - 1], states)
    wanted = max(values) if name == "val_accuracy" else min(values)
    assert float(best.value) == wanted
    assert int(best.epoch) == values.index(wanted) + 1
    assert_trees_equal((best.params, best.batch_stats), weights_of(best.epoch))


# -- early stopping


@functools.cache
def our_stop(**fields):
    """A function from a padded sequence to the state after each epoch."""
    monitor = monitors.early_stopping(parse(fields, EarlyStopping))

    def epoch(state, now):
        number, value = now
        known = all_figures(fields["monitor"], value)
        state = monitor.update(state, known, number, *weights_of(number))
        return state, (state.stopped, state.best)

    def stop(values, first):
        numbers = first + jnp.arange(LENGTH)
        start = monitor.init(*weights_of(0))
        return jax.lax.scan(epoch, start, (numbers, values))[1]

    return jax.jit(stop)


class KerasModel:
    """The part of a model that EarlyStopping uses."""

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
    for number, (patience, restore_best) in enumerate(np.ndindex(4, 2))
]


@pytest.mark.parametrize("fields", EARLY_STOPPINGS)
@settings(max_examples=100, deadline=None)
@given(moves=EDGY_MOVES, first=st.sampled_from([1, 8]))
@example(moves=BAD, first=1)
@example(moves=[("is", np.nan), *BAD[1:]], first=1)
@example(moves=[("is", 0.5)] + [("edge", 0), ("edge", 1), ("edge", -1)] * 5, first=8)
# Where the sum with 0.03 is rounded, and the difference would not be.
@example(moves=[("is", 1.006), *[("edge", -1)] * 4], first=1)
def test_early_stopping_equals_keras(fields, moves, first):
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
        assert stopped[end:].all()  # for good, whatever follows
    if fields["restore_best"]:
        assert best.params["w"][end] == 10 * (weights + first - 1)
        assert best.batch_stats["mean"][end] == -(weights + first - 1)
    else:
        assert jax.tree.leaves((best.params, best.batch_stats)) == []


# -- reduction on a plateau


@functools.cache
def our_rates(**fields):
    """A function from a padded sequence to the learning rates after its epochs."""
    monitor = monitors.reduce_on_plateau(parse(fields, Plateau), learning_rate=RATE)

    def epoch(state, value):
        state = monitor.update(state, all_figures(fields["monitor"], value))
        return state, RATE * state.scale

    return jax.jit(lambda values: jax.lax.scan(epoch, monitor.init(), values)[1])


class KerasOptimizer:
    """The part of an optimizer that ReduceLROnPlateau uses, in single precision."""

    def __init__(self):
        self.learning_rate = RATE

    def __setattr__(self, name, value):
        super().__setattr__(name, np.float32(value))


def keras_rates(values, *, monitor, patience, cooldown, factor, min_delta, floor):
    callback = keras.callbacks.ReduceLROnPlateau(
        monitor=monitor,
        mode=mode(monitor),
        patience=patience,
        cooldown=cooldown,
        factor=factor,
        min_delta=min_delta,
        min_lr=floor,
    )
    optimizer = KerasOptimizer()
    callback.set_model(SimpleNamespace(optimizer=optimizer))
    callback.on_train_begin()
    rates = []
    for epoch, value in enumerate(values):
        callback.on_epoch_end(epoch, {monitor: value})
        rates.append(optimizer.learning_rate)
    return np.array(rates)


# Every patience with every cooldown, the other fields in turn.
PLATEAUS = [
    pytest.param(
        {
            "monitor": ("val_loss", "val_accuracy", "train_loss")[number % 3],
            "patience": patience,
            "cooldown": cooldown,
            "factor": (0.5, 0.1, 0.3, 0.9)[number % 4],
            "min_delta": (1e-4, 0.0, 0.03)[number // 3 % 3],
            "min_learning_rate": (0.0, 1e-5, 4e-4, 0.0, 2e-4, 0.0, RATE)[number % 7],
        },
        id=f"patience {patience}, cooldown {cooldown}",
    )
    for number, (patience, cooldown) in enumerate(np.ndindex(4, 3))
]


@pytest.mark.parametrize("fields", PLATEAUS)
@settings(max_examples=60, deadline=None)
@given(moves=MOVES)
@example(moves=BAD)
def test_the_plateau_equals_keras(fields, moves):
    values = figures(moves, fields["monitor"], fields["min_delta"])
    theirs = keras_rates(
        values,
        **{k: v for k, v in fields.items() if k != "min_learning_rate"},
        floor=fields["min_learning_rate"],
    )
    ours = our_rates(**fields)(padded(values))[: len(values)]
    # The product of up to 15 factors, each rounded.
    np.testing.assert_allclose(ours, theirs, rtol=1e-6)


# -- all of them


@pytest.mark.parametrize(
    "build",
    [
        lambda: best_after_each("val_loss"),
        lambda: lambda x: our_stop(**EARLY_STOPPINGS[3].values[0])(x, np.int32(1)),  # type: ignore[arg-type]
        lambda: our_rates(**PLATEAUS[5].values[0]),  # type: ignore[arg-type]
    ],
    ids=["best", "early stopping", "plateau"],
)
def test_each_seed_has_monitors_of_its_own_under_vmap(build):
    function: Any = build()
    sequences = np.random.default_rng(0).integers(0, 6, (5, LENGTH)) / np.float32(8)
    together = jax.vmap(function)(jnp.asarray(sequences))
    alone = [function(jnp.asarray(values)) for values in sequences]
    assert_trees_equal(together, jax.tree.map(lambda *x: np.stack(x), *alone))
    assert len(np.unique(np.asarray(jax.tree.leaves(together)[0]).sum(axis=1))) > 1


def test_monitors_that_are_off_never_change():
    plateau = monitors.reduce_on_plateau(Plateau(patience=0), learning_rate=RATE)
    stopping = monitors.early_stopping(EarlyStopping(patience=0))
    states = plateau.init(), stopping.init(*weights_of(0))
    value = all_figures("val_loss", jnp.float32(1.0))
    assert_trees_equal(plateau.update(states[0], value), states[0])
    assert_trees_equal(
        stopping.update(states[1], value, jnp.int32(1), *weights_of(1)), states[1]
    )
    assert float(states[0].scale) == 1.0 and not states[1].stopped


@pytest.mark.parametrize(
    ("section", "fields", "message"),
    [
        (
            Plateau,
            {"monitor": "val_loss", "min_learning_rate": 2e-3},
            "min_learning_rate=0.002: above the learning rate, 0.001",
        ),
        (EarlyStopping, {"restore_best": True}, r"restore_best: field\.monitor must"),
    ],
)
def test_bad_fields_are_refused(section, fields, message):
    with pytest.raises(UserError, match=rf"^field\.{message}"):
        config = parse(fields, section, flag="field")
        if section is Plateau:
            monitors.reduce_on_plateau(config, learning_rate=RATE, flag="field")
        else:
            monitors.early_stopping(config, flag="field")
