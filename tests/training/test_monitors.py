"""The monitors: best-so-far against min and max, the others against Keras's callbacks.

Keras computes with Python's numbers, in double precision, where it is given any. Here
it is given `np.float32`, so that it decides in single precision, as the machines do:
what is compared is then the same to the last bit, ties and borderline cases included.
"""

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

from configs import base
from mnist_jax.errors import UserError
from mnist_jax.training import monitors
from mnist_jax.training.monitors import MONITORS, Best, make_update_best
from tests.conftest import assert_trees_equal

os.environ.setdefault("KERAS_BACKEND", "jax")
import keras  # noqa: E402 - reads the variable

# -- best-so-far

# Few distinct values, so that ties are common; exact in float32.
VALUES = st.lists(st.integers(0, 5).map(lambda n: n / 8), min_size=1, max_size=12)


def run(monitor, values):
    update = jax.jit(make_update_best(monitor=monitor))
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
    update = jax.jit(make_update_best(monitor="val_loss"))
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


@pytest.mark.parametrize("may_be_off", [False, True])
def test_an_unknown_monitor_is_answered_with_the_known_ones(may_be_off):
    known = "train_loss, val_loss, val_accuracy"
    known = f"none, {known}" if may_be_off else known
    with pytest.raises(UserError, match=rf"f\.g=test_loss: .*\(known: {known}\)"):
        monitors.check_monitor("test_loss", "f.g", may_be_off=may_be_off)


def test_only_what_may_be_off_may_be_none():
    monitors.check_monitor("none", "f.g", may_be_off=True)
    with pytest.raises(UserError, match="f.g=none"):
        monitors.check_monitor("none", "f.g")


# -- sequences of figures

LENGTH = 16
# An epoch's figure: one of a few values (so that there are ties), or one so near to
# the best so far that `min_delta` decides, exactly or by one unit in the last place.
GRID = st.integers(1, 4).map(lambda n: ("is", n / 8))
EDGES = st.tuples(st.just("edge"), st.integers(-2, 2))
ODD = st.sampled_from([np.nan, np.inf, -np.inf]).map(lambda x: ("is", x))
MOVES = st.lists(st.one_of(GRID, EDGES, EDGES, GRID, ODD), min_size=1, max_size=LENGTH)
BAD = [("is", 0.5)] * LENGTH


def figures(moves, monitor, min_delta):
    """The float32 values that the moves stand for."""
    sign = np.float32(-1 if monitor == "val_accuracy" else 1)
    step = sign * np.float32(min_delta)
    values, best = [], np.float32(0.5)
    for kind, number in moves:
        value = np.float32(number)
        if kind == "edge":
            value = best - step
            if np.isfinite(value):
                for _ in range(abs(number)):
                    value = np.nextafter(value, np.float32(np.inf * number))
        if not values or sign * (value + step) < sign * best:
            best = value
        values.append(value)
    return np.array(values, np.float32)


def padded(values):
    return jnp.asarray(np.resize(values, LENGTH))


def all_figures(monitor, value):
    """What an epoch says; all but the monitored figure always get better."""
    others = {"train_loss": -jnp.inf, "val_loss": -jnp.inf, "val_accuracy": jnp.inf}
    return {**others, monitor: value}


def mode(monitor):
    return "max" if monitor == "val_accuracy" else "min"


# -- reduce on plateau

RATE = 1e-3


def make_plateau(**fields):
    config = base.get_phase().plateau
    config.update(fields)
    return monitors.PlateauMachine(config, learning_rate=RATE, flag="plateau")


@functools.cache
def our_rates(**fields):
    """A function from a padded sequence to the learning rates after its epochs."""
    machine = make_plateau(**fields)

    def epoch(state, value):
        state = machine.update(state, all_figures(fields["monitor"], value))
        return state, RATE * state.scale

    return jax.jit(lambda values: jax.lax.scan(epoch, machine.init(), values)[1])


class KerasOptimizer:
    """What ReduceLROnPlateau needs of one: a learning rate, in single precision."""

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
    for number, (patience, cooldown) in enumerate(np.ndindex(5, 4))
]


@pytest.mark.parametrize("fields", PLATEAUS)
@settings(max_examples=100, deadline=None)
@given(moves=MOVES)
@example(moves=BAD)
@example(moves=[("is", np.nan), *BAD[1:]])
@example(moves=[("is", 0.5)] + [("edge", 0), ("edge", 1), ("edge", -1)] * 5)
def test_plateau_is_that_of_keras(fields, moves):
    values = figures(moves, fields["monitor"], fields["min_delta"])
    theirs = keras_rates(
        values,
        **{k: v for k, v in fields.items() if k != "min_learning_rate"},
        floor=fields["min_learning_rate"],
    )
    ours = our_rates(**fields)(padded(values))[: len(values)]
    # The product of up to 15 factors, each rounded.
    np.testing.assert_allclose(ours, theirs, rtol=1e-6)


def test_several_replicas_have_plateaus_of_their_own():
    fields: Any = PLATEAUS[5].values[0]
    sequences = np.random.default_rng(0).integers(0, 4, (5, LENGTH)) / np.float32(8)
    together = jax.vmap(our_rates(**fields))(jnp.asarray(sequences))
    alone = [our_rates(**fields)(jnp.asarray(values)) for values in sequences]
    np.testing.assert_array_equal(together, alone)
    assert len(np.unique(np.asarray(together)[:, -1])) > 1


def test_a_plateau_that_is_off_never_changes():
    machine = make_plateau(patience=0)
    state = machine.init()
    for _ in range(3):
        state = machine.update(state, all_figures("val_loss", jnp.float32(1.0)))
    assert_trees_equal(state, machine.init())
    assert float(state.scale) == 1.0


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"monitor": "val_lose"}, r"monitor=val_lose: .*known: none, train_loss"),
        ({"factor": 1.0}, "factor=1.0: must be above 0 and below 1"),
        ({"factor": 2.0}, "factor=2.0: "),
        ({"factor": 0.0}, "factor=0.0: "),
        ({"factor": -0.5}, "factor=-0.5: "),
        ({"factor": float("nan")}, "factor=nan: "),
        ({"patience": -1}, "patience=-1: must be at least 0"),
        ({"cooldown": -1}, "cooldown=-1: must be at least 0"),
        ({"min_delta": -1e-4}, "min_delta=-0.0001: must be at least 0"),
        ({"min_delta": float("nan")}, "min_delta=nan: "),
        ({"min_delta": float("inf")}, "min_delta=inf: "),
        ({"min_learning_rate": -1e-6}, "min_learning_rate=-1e-06: must be at least 0"),
        ({"min_learning_rate": float("nan")}, "min_learning_rate=nan: "),
        (
            {"monitor": "val_loss", "min_learning_rate": 2e-3},
            "min_learning_rate=0.002: above the learning rate, 0.001",
        ),
    ],
)
def test_plateau_refuses(fields, message):
    with pytest.raises(UserError, match=rf"^plateau\.{message}"):
        make_plateau(**fields)


# -- early stopping


def make_early_stopping(**fields):
    config = base.get_phase().early_stopping
    config.update(fields)
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
