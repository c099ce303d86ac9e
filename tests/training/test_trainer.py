"""The trainer: the order of the images, evaluation, validation and the best so far."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mnist_jax import config, data
from mnist_jax.data import augment
from mnist_jax.devices import parallel
from mnist_jax.training import step
from mnist_jax.training.evaluator import Evaluator
from mnist_jax.training.keys import epoch_order, make_keys, permutation_on_host
from mnist_jax.training.trainer import default_steps_per_call as step_count
from tests.conftest import assert_trees_equal
from tests.support.training_parts import (
    EVERYTHING,
    TINY,
    as_batch,
    largest_difference,
    make_phase,
    make_state,
    make_trainer,
    run_epoch,
    weights,
)

pytestmark = pytest.mark.usefixtures("little_optimized")

# -- the order of the images


def order(seed, epoch, **sizes):
    return np.asarray(epoch_order(make_keys(seed).order, epoch, **sizes))


@pytest.mark.parametrize("steps", [1, 3, 4, 5, 11])
def test_an_epoch_of_any_length_is_made_of_passes(steps):
    drawn = order(0, 1, size=64, batch_size=15, steps=steps)
    assert drawn.shape == (steps, 15) and {*drawn.flat} <= {*range(64)}
    passes = [drawn[first : first + 4] for first in range(0, steps, 4)]
    assert all(len(np.unique(each)) == each.size for each in passes)
    assert len({each[0].tobytes() for each in passes}) == len(passes)
    np.testing.assert_array_equal(
        passes[0], order(0, 1, size=64, batch_size=15)[: len(passes[0])]
    )


def test_epochs_and_seeds_have_orders_of_their_own():
    sizes = {"size": 64, "batch_size": 16}
    assert np.array_equal(order(0, 1, **sizes), order(0, 1, **sizes))
    assert not np.array_equal(order(0, 1, **sizes), order(0, 2, **sizes))
    assert not np.array_equal(order(0, 1, **sizes), order(1, 1, **sizes))


def test_every_image_has_its_turn():
    """The images that an epoch drops are drawn again each time."""
    drawn = [order(0, epoch, size=10, batch_size=6) for epoch in range(12)]
    assert set(np.ravel(drawn)) == set(range(10))


@pytest.mark.parametrize("size", [1, 2, 3, 1000, 2000, 200_000])
def test_an_order_is_the_same_whether_the_host_or_a_device_draws_it(size):
    """In one round or two; among 200,000 random numbers some are equal."""
    key = make_keys(0).order
    expected = jax.random.permutation(key, size)
    np.testing.assert_array_equal(permutation_on_host(key, size), expected)


def test_images_that_are_read_as_needed_are_the_same(small):
    phase, found = make_phase(batch_size=12), []
    for copy in (True, False):
        sizes = {"val_size": 4, "split_seed": 0, "copy": copy}
        train, _ = data.hold_out(small.train, **sizes)
        dataset = dataclasses.replace(small, train=train)
        calls = config.Experiment(steps_per_call=2)  # 2, 2 and 1 of the 5 steps
        trainer = make_trainer(phase, dataset, experiment=calls)
        found.append(run_epoch(trainer, make_state(TINY, phase), 1)[0])
    assert_trees_equal(*found)


def test_a_call_has_a_few_steps_if_its_images_are_read_as_needed():
    assert step_count("gpu", "xla", 1000) == 1000
    assert step_count("gpu", "xla", 1000, large=True) == 40
    assert step_count("gpu", "xla", 7, large=True) == 20  # or the 7 of the epoch
    assert step_count("cpu", "xla", 1000, large=True) == 1


# -- evaluation


@pytest.fixture(scope="module")
def judged(small):
    """Weights with statistics that have moved, and the logits and losses by these."""
    params, batch_stats = weights(TINY)
    batch_stats = jax.tree.map(lambda x: x + 0.5, batch_stats)
    batch = as_batch(small.val)
    scaled = step.to_input(batch.images)
    outputs, _ = TINY.apply(params, batch_stats, scaled, train=False)
    fresh, _ = TINY.apply(params, weights(TINY)[1], scaled, train=False)
    assert largest_difference(outputs.logits, fresh.logits) > 1e-3
    losses = TINY.loss(outputs, scaled, batch.labels)
    return batch, params, batch_stats, (outputs.logits, losses)


def make_evaluator(batch_size, apply_fn=TINY.apply):
    return Evaluator(
        apply_fn, TINY.loss, batch_size=batch_size, devices=parallel.every()
    )


def assert_close(found, expected):
    for one, other in zip(found, expected, strict=True):
        assert one.shape == other.shape
        np.testing.assert_allclose(one, other, atol=1e-5)


@pytest.mark.parametrize("batch_size", [1, 7, 1000])
def test_evaluation_covers_every_image_whatever_the_batch(judged, batch_size):
    """Without dropout, and with BatchNorm's running statistics."""
    batch, params, batch_stats, expected = judged
    evaluator = make_evaluator(batch_size)
    assert_close(evaluator(params, batch_stats, batch), expected)
    logits = evaluator.logits(params, batch_stats, batch.images)
    np.testing.assert_allclose(logits, expected[0], atol=1e-5)


# -- training


@pytest.mark.parametrize("steps_per_epoch", [0, 7])
def test_the_augmentation_is_given_the_share_of_the_phase_that_is_over(
    small, monkeypatch, steps_per_epoch
):
    """Of all its epochs, before each step."""
    shares = []

    def note(key, images, progress, labels):
        jax.debug.callback(shares.append, progress)
        return images

    monkeypatch.setattr(augment, "create", lambda fields: note)
    phase = make_phase(batch_size=12, epochs=2, steps_per_epoch=steps_per_epoch)
    made = make_trainer(phase, small)
    current = make_state(TINY, phase)
    for epoch in (1, 2):
        current, _ = run_epoch(made, current, epoch)
    jax.effects_barrier()
    steps = 2 * (steps_per_epoch or 5)
    assert int(current.step) == steps
    np.testing.assert_allclose(sorted(shares), np.arange(steps) / steps, atol=1e-6)


def test_validation_and_best_are_of_the_moving_average(small):
    """Two epochs, the second of which is given the buffers of the first."""
    phase = make_phase(
        **EVERYTHING | {"ema_decay": 0.9, "optimizer.learning_rate": 1e-2}
    )
    made = make_trainer(phase, small)

    def loss_of(params, batch_stats):
        """Of the validation images, without label smoothing."""
        images = jnp.asarray(small.val.images, jnp.float32) / 255
        outputs, _ = TINY.apply(params, batch_stats, images, train=False)
        logits = np.float64(outputs.logits)
        log_p = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
        hits = (logits.argmax(axis=1) == small.val.labels).mean()
        return -log_p[np.arange(30), small.val.labels].mean(), hits

    current, epochs = make_state(TINY, phase), []
    for epoch in (1, 2):
        current, (_, record) = run_epoch(made, current, epoch)
        loss, hits = loss_of(*current.weights)
        assert record["loss"] == pytest.approx(loss, rel=1e-5)
        assert record["accuracy"] == pytest.approx(hits)
        without = loss_of(current.params, current.batch_stats)[0]
        assert abs(without - loss) > 1e-4
        epochs.append((record["loss"], jax.tree.map(np.array, current.weights)))
        # The best is one of these averages, and so are the weights to restore.
        value, expected = min(epochs, key=lambda pair: pair[0])
        for best in (current.best, current.early_stopping.best):
            assert float(best.value) == np.float32(value)
            assert_trees_equal((best.params, best.batch_stats), expected)
    assert int(current.step) == 10


def test_an_epoch_does_not_depend_on_how_it_is_divided_into_calls(small):
    """Equal to rounding: XLA fuses the body of a loop in another way."""
    phase, ends = make_phase(**EVERYTHING), []
    for steps_per_call in (1, 3):  # the second call has two steps
        experiment = dataclasses.replace(
            config.Experiment(), steps_per_call=steps_per_call
        )
        made = make_trainer(phase, small, experiment=experiment)
        ends.append(run_epoch(made, make_state(TINY, phase), 1))
    for state, records in ends[1:]:
        assert largest_difference(state.params, ends[0][0].params) < 1e-5
        for one, other in zip(records, ends[0][1], strict=True):
            assert one["loss"] == pytest.approx(other["loss"], rel=1e-5)
            assert one["accuracy"] == other["accuracy"]
