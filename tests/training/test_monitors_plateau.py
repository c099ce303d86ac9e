"""Reducing the rate on a plateau: as Keras's callback; off; refused."""

import functools
import os
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import example, given, settings

from mnist_jax.config import Plateau, parse
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

RATE = 1e-3


def make_plateau(**fields):
    config = parse(fields, Plateau, flag="plateau")
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
