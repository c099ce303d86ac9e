"""Laws of the step: chunking changes nothing, it learns, it agrees with plain optax."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from ml_collections import ConfigDict

from mnist_jax import models
from mnist_jax.training import loop, state, step
from tests.conftest import assert_trees_equal

MODEL = models.create(ConfigDict({"name": "lenet5"}))
ADAM = optax.adam(1e-3, eps=1e-7)


def make_state() -> state.TrainState:
    return state.create(*MODEL.init(jax.random.key(0)), ADAM)


def as_batch(split) -> step.Batch:
    return step.Batch(jnp.asarray(split.images), jnp.asarray(split.labels))


def test_a_step_is_adam_on_the_mean_cross_entropy(small):
    """Written out by hand: gradient of the mean loss, Kingma and Ba's first update."""
    before = make_state()
    batch = as_batch(small.train)
    train_step = step.make_train_step(apply_fn=MODEL.apply, optimizer=ADAM)
    after, metrics = jax.jit(train_step)(before, batch, jax.random.key(1))

    def loss_fn(params):
        images = jnp.asarray(small.train.images, jnp.float32) / 255
        logits, _ = MODEL.apply(params, {}, images, train=False)
        log_p = logits - jax.nn.logsumexp(logits, axis=1, keepdims=True)
        return -log_p[jnp.arange(64), jnp.asarray(small.train.labels, int)].mean()

    loss, gradients = jax.value_and_grad(loss_fn)(before.params)
    np.testing.assert_allclose(metrics.loss, loss, rtol=1e-5)
    # At the first step Adam's moments are g and g^2 after bias correction.
    expected = jax.tree.map(
        lambda p, g: p - 1e-3 * g / (jnp.abs(g) + 1e-7), before.params, gradients
    )
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, atol=2e-5),
        after.params,
        expected,
    )
    assert int(after.step) == 1


@pytest.mark.parametrize("chunk", [2, 3, 5])
def test_an_epoch_cut_into_calls_is_the_same_epoch(small, chunk):
    """Five steps one by one, and through `lax.scan` in calls of 2, 3 and 5."""
    data = as_batch(small.train)
    indices = loop.epoch_order(jax.random.key(2), 1, size=64, batch_size=12)
    train_step = step.make_train_step(apply_fn=MODEL.apply, optimizer=ADAM)

    def run(lengths):
        current, losses, first = make_state(), [], 0
        for length in lengths:
            steps = jax.jit(step.make_train_steps(train_step=train_step, steps=length))
            current, metrics = steps(
                current, data, indices, np.int32(first), jax.random.key(1)
            )
            losses += list(np.asarray(metrics.loss))
            first += length
        return current, losses

    one_by_one, losses = run([1] * 5)
    lengths = [min(chunk, 5 - first) for first in range(0, 5, chunk)]
    chunked, chunked_losses = run(lengths)
    assert int(chunked.step) == 5
    # XLA fuses a loop's body otherwise than a lone step: equal to rounding, not to the
    # bit.
    np.testing.assert_allclose(chunked_losses, losses, rtol=1e-5)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5),
        chunked.params,
        one_by_one.params,
    )


def test_64_images_can_be_overfitted(small):
    train_step = jax.jit(step.make_train_step(apply_fn=MODEL.apply, optimizer=ADAM))
    batch = as_batch(small.train)
    current, metrics = train_step(make_state(), batch, jax.random.key(1))
    for _ in range(149):
        current, metrics = train_step(current, batch, jax.random.key(1))
    assert float(metrics.accuracy) == 1.0
    assert float(metrics.loss) < 0.1


def test_an_epoch_takes_each_image_at_most_once_and_drops_only_the_rest():
    order = np.asarray(loop.epoch_order(jax.random.key(0), 1, size=64, batch_size=15))
    assert order.shape == (4, 15)
    assert len(np.unique(order)) == 60
    assert order.min() >= 0 and order.max() < 64


def test_epochs_and_seeds_have_orders_of_their_own():
    def order(seed, epoch):
        keys = loop.make_keys(seed)
        return np.asarray(loop.epoch_order(keys.order, epoch, size=64, batch_size=16))

    assert np.array_equal(order(0, 1), order(0, 1))
    assert not np.array_equal(order(0, 1), order(0, 2))
    assert not np.array_equal(order(0, 1), order(1, 1))


def test_every_leftover_image_gets_its_turn():
    """The images that an epoch drops are drawn anew, not always the same."""
    keys = loop.make_keys(0)
    seen = {
        index
        for epoch in range(12)
        for index in np.asarray(
            loop.epoch_order(keys.order, epoch, size=10, batch_size=6)
        ).ravel()
    }
    assert seen == set(range(10))


@pytest.mark.parametrize("batch_size", [1, 7, 30, 1000])
def test_prediction_covers_every_image_whatever_the_batch(small, batch_size):
    params, batch_stats = MODEL.init(jax.random.key(0))
    images = jnp.asarray(small.val.images)
    predict = loop.make_predict(apply_fn=MODEL.apply, batch_size=batch_size)
    whole, _ = MODEL.apply(params, batch_stats, step.to_input(images), train=False)
    logits = predict(params, batch_stats, images)
    assert logits.shape == (30, 10)
    np.testing.assert_allclose(logits, whole, atol=1e-5)


def test_input_is_0_to_1():
    images = jnp.arange(256, dtype=jnp.uint8).reshape(1, 16, 16, 1)
    scaled = np.asarray(step.to_input(images))
    assert scaled.dtype == np.float32
    # XLA multiplies by 1/255 instead, which can differ in the last bit.
    np.testing.assert_allclose(scaled.ravel(), np.arange(256) / 255, rtol=2e-7)
    assert (scaled.min(), scaled.max()) == (0.0, 1.0)


def test_a_new_phase_has_a_fresh_optimizer_and_the_weights_it_was_told(small):
    train_step = jax.jit(step.make_train_step(apply_fn=MODEL.apply, optimizer=ADAM))
    current, _ = train_step(make_state(), as_batch(small.train), jax.random.key(1))
    from_last = state.begin_phase(current, ADAM, from_best=False)
    assert_trees_equal(from_last.params, current.params)
    assert_trees_equal(from_last.opt_state, ADAM.init(current.params))
    assert int(from_last.step) == 1  # so that no random draw comes twice
    from_best = state.begin_phase(current, ADAM, from_best=True)
    assert_trees_equal(from_best.params, current.best.params)
    assert not np.array_equal(
        from_best.params["logits"]["kernel"], current.params["logits"]["kernel"]
    )
