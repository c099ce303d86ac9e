"""The loop: the order of the images, prediction, validation and the best so far."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mnist_jax.devices import parallel
from mnist_jax.training import loop, step
from mnist_jax.training.predict import make_evaluate, make_predict
from tests.conftest import assert_trees_equal
from tests.support.training_parts import (
    EVERYTHING,
    TINY,
    Silence,
    as_batch,
    largest_difference,
    make_phase,
    make_state,
    run_epoch,
    weights,
)

# -- the order of the images


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


# -- prediction


@pytest.fixture(scope="module")
def judged(small):
    """Images, weights with statistics that have moved, and the logits by these."""
    params, batch_stats = weights(TINY)
    batch_stats = jax.tree.map(lambda x: x + 0.5, batch_stats)
    images = jnp.asarray(small.val.images)
    scaled = step.to_input(images)
    (logits, _), _ = TINY.apply(params, batch_stats, scaled, train=False)
    (fresh, _), _ = TINY.apply(params, weights(TINY)[1], scaled, train=False)
    assert largest_difference(logits, fresh) > 1e-3
    return images, params, batch_stats, logits


@pytest.mark.parametrize("batch_size", [1, 7, 30, 1000])
def test_prediction_covers_every_image_whatever_the_batch(judged, batch_size):
    """Without dropout, and with BatchNorm's running statistics."""
    images, params, batch_stats, expected = judged
    predict = make_predict(
        apply_fn=TINY.apply, batch_size=batch_size, devices=parallel.every()
    )
    logits = predict(params, batch_stats, images)
    assert logits.shape == (30, 10)
    np.testing.assert_allclose(logits, expected, atol=1e-5)


def test_a_rehearsal_computes_one_batch_and_leaves_nothing_to_trace(judged):
    images, params, batch_stats, expected = judged
    traced, computed = [], []

    def apply_fn(*arguments, **options):
        traced.append(arguments)
        jax.debug.callback(lambda: computed.append(None))
        return TINY.apply(*arguments, **options)

    predict = make_predict(apply_fn=apply_fn, batch_size=7, devices=parallel.every())
    rehearsed = predict(params, batch_stats, images, rehearse=True)
    jax.effects_barrier()
    assert (len(traced), len(computed)) == (1, 1)
    assert rehearsed.shape == expected.shape
    np.testing.assert_allclose(rehearsed[:7], expected[:7], atol=1e-5)
    logits = predict(params, batch_stats, images)
    jax.effects_barrier()
    assert (len(traced), len(computed)) == (1, 1 + 5)
    np.testing.assert_allclose(logits, expected, atol=1e-5)


# -- the length of a call


@pytest.mark.parametrize(
    ("backend", "convolutions", "steps", "expected"),
    [
        ("gpu", "plain", 627, 627),
        ("cpu", "cpu", 627, 1),
        ("cpu", "onednn", 627, 33),  # a divisor: one program for all calls
        ("cpu", "onednn", 421, 20),  # a prime
        ("cpu", "onednn", 8, 20),  # more than there are: Trainer takes what there is
    ],
)
def test_calls_are_as_long_as_the_backend_can_bear(
    backend, convolutions, steps, expected
):
    assert loop.default_steps_per_call(backend, convolutions, steps) == expected


# -- training


def make_trainer(phase, train, val, *, augment_fn=None):
    return loop.Trainer(
        apply_fn=TINY.apply,
        loss_fn=TINY.loss,
        phase=phase,
        data=train,
        val=val,
        augment_fn=augment_fn,
        devices=parallel.every(),
        evaluate=make_evaluate(
            apply_fn=TINY.apply,
            loss_fn=TINY.loss,
            batch_size=30,
            devices=parallel.every(),
        ),
        steps_per_call=1,
        monitor="val_loss",
        keys=loop.make_keys(0),
        listener=Silence(),
    )


def test_the_augmentation_is_told_how_much_of_the_phase_is_over(small):
    """Of all its epochs, before each step."""
    told = []

    def note(key, images, progress):
        jax.debug.callback(told.append, progress)
        return images

    phase = make_phase(batch_size=12, epochs=2)
    trainer = make_trainer(
        phase, as_batch(small.train), as_batch(small.val), augment_fn=note
    )
    current = make_state(TINY, phase)
    for epoch in (1, 2):
        current, _ = run_epoch(trainer, current, epoch)
    jax.effects_barrier()
    np.testing.assert_allclose(sorted(told), np.arange(10) / 10, atol=1e-6)


@pytest.mark.parametrize("part", [0, 1])
def test_floating_point_images_are_refused(small, part):
    """Nothing says whether they are in 0..1 or in 0..255."""
    parts = [as_batch(small.train), as_batch(small.val)]
    images = parts[part].images.astype(jnp.float32)
    parts[part] = parts[part]._replace(images=images)
    with pytest.raises(TypeError, match="uint8 in 0..255, got float32; convert"):
        make_trainer(make_phase(batch_size=12), *parts)


def test_validation_and_best_are_of_the_moving_average(small):
    """Two epochs, the second of which is given the buffers of the first."""
    phase = make_phase(
        **EVERYTHING | {"ema_decay": 0.9, "optimizer.learning_rate": 1e-2}
    )
    trainer = make_trainer(phase, as_batch(small.train), as_batch(small.val))

    def loss_of(params, batch_stats):
        """Of the validation images, the labels as they are."""
        images = jnp.asarray(small.val.images, jnp.float32) / 255
        logits = np.float64(
            TINY.apply(params, batch_stats, images, train=False)[0].logits
        )
        log_p = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
        hits = (logits.argmax(axis=1) == small.val.labels).mean()
        return -log_p[np.arange(30), small.val.labels].mean(), hits

    current, epochs = make_state(TINY, phase), []
    for epoch in (1, 2):
        current, (_, record) = run_epoch(trainer, current, epoch)
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
