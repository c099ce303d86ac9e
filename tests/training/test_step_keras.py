"""The loss, and whole steps of LeNet-5: as in Keras, and as written out by hand."""

import functools
import os

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mnist_jax import models
from mnist_jax.config import Model
from mnist_jax.data import DIGITS
from mnist_jax.training import step
from tests.models.keras_models import as_trees, lenet5, like_keras, set_weights
from tests.support.training_parts import (
    KEY,
    assert_close,
    largest_difference,
    make_phase,
    make_state,
    make_step,
)

os.environ.setdefault("KERAS_BACKEND", "jax")
import keras  # reads the variable

pytestmark = pytest.mark.usefixtures("little_optimized")

LENET5 = models.create(Model("lenet5"), DIGITS)


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.5, 0.99])
def test_cross_entropy_is_that_of_keras(smoothing):
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 5, (200, 10)).astype(np.float32)
    labels = rng.integers(0, 10, 200).astype(np.uint8)
    ours = models.cross_entropy(
        jnp.asarray(logits), jnp.asarray(labels), smoothing=smoothing
    )
    with like_keras():
        loss = keras.losses.CategoricalCrossentropy(
            from_logits=True, label_smoothing=smoothing, reduction="none"
        )
        theirs = loss(np.eye(10, dtype=np.float32)[labels], logits)
    assert ours.shape == (200,)
    np.testing.assert_allclose(ours, np.asarray(theirs), rtol=1e-5, atol=1e-5)
    # The definition, for classes that are not ten.
    few = logits[:, :3].astype(float)
    log_p = few - np.log(np.exp(few).sum(axis=1, keepdims=True))
    target = np.eye(3)[labels % 3] * (1 - smoothing) + smoothing / 3
    by_hand = models.cross_entropy(
        jnp.asarray(logits[:, :3]), jnp.asarray(labels % 3), smoothing=smoothing
    )
    np.testing.assert_allclose(by_hand, -(target * log_p).sum(axis=1), atol=1e-5)


@functools.cache
def lenet5_step(**fields):
    phase = make_phase(**fields)
    return phase, jax.jit(make_step(LENET5.apply, phase))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fields", "optimizer"),
    [
        ({}, keras.optimizers.Adam),
        (
            {
                "optimizer.name": "rmsprop",
                "optimizer.eps_in_sqrt": True,
                "label_smoothing": 0.1,
            },
            keras.optimizers.RMSprop,
        ),
    ],
    ids=["adam", "rmsprop with smoothed labels"],
)
def test_steps_of_lenet5_are_those_of_keras(small, fields, optimizer):
    """The whole of it: network, loss, gradient and optimizer, by `train_on_batch`."""
    phase, train_step = lenet5_step(**fields)
    current = make_state(LENET5, phase)
    start = current.params
    keras_model = lenet5()
    set_weights(keras_model, start, {})
    with like_keras():
        keras_model.compile(
            optimizer=optimizer(1e-3),
            loss=keras.losses.CategoricalCrossentropy(
                from_logits=True, label_smoothing=phase.config.label_smoothing
            ),
        )
        one_hot = np.eye(10, dtype=np.float32)[small.train.labels]
        for number in range(1, 5):  # darker each time: no two steps are the same
            images = small.train.images // number
            batch = step.Batch(jnp.asarray(images), jnp.asarray(small.train.labels))
            current, _ = train_step(current, batch, KEY)
            keras_model.train_on_batch(images.astype(np.float32) / 255, one_hot)
            variables = keras_model.trainable_variables
            theirs, _ = as_trees(variables, [v.value for v in variables])
            assert_close(current.params, theirs, 1e-5)
    assert largest_difference(current.params, start) > 2e-3
