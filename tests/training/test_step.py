"""Laws of the step: Keras and NumPy agree with it, and chunking changes nothing."""

import functools
import os

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict

from configs import base
from mnist_jax import augment, models
from mnist_jax.models import layers
from mnist_jax.training import loop, monitors, state, step
from mnist_jax.training.phase import Phase
from tests.conftest import assert_trees_equal
from tests.models.keras_models import as_trees, lenet5, like_keras, set_weights

os.environ.setdefault("KERAS_BACKEND", "jax")
import keras  # noqa: E402 - reads the variable

KEY = jax.random.key(1)


class Tiny(nn.Module):
    """One of everything that a network here has; it compiles fast, in a loop too."""

    @nn.compact
    def __call__(self, images, *, train):
        x = layers.average_pool(images, 2)
        x = nn.relu(layers.Conv(4, (3, 3), padding="SAME", name="conv")(x))
        x = layers.BatchNorm(use_running_average=not train, name="norm")(x)
        x = layers.max_pool(x, 2)
        x = layers.Dropout(0.25)(x, train=train)
        return layers.Dense(10, name="logits")(x.reshape(x.shape[0], -1))


LENET5 = models.create(ConfigDict({"name": "lenet5"}))
TINY = models.Model("tiny", Tiny())


def make_phase(**fields):
    config = base.get_phase()
    config.update_from_flattened_dict(fields)
    return Phase.from_config(config)


def make_step(apply_fn, phase, *, steps_per_epoch=5, **fields):
    """The step as `loop.Trainer` makes it."""
    return step.make_train_step(
        apply_fn=apply_fn,
        optimizer=phase.optimizer,
        learning_rate_fn=phase.learning_rate_fn(steps_per_epoch),
        label_smoothing=phase.label_smoothing,
        ema_decay=phase.ema_decay,
        **fields,
    )


@functools.cache
def weights(model):
    # Keys of this kind compile in a fifth of the time.
    return jax.jit(model.init)(jax.random.key(0, impl="rbg"))


def make_state(model, phase):
    """Copies of the weights: a step may be given the state's buffers."""
    params, batch_stats = monitors.copy(weights(model))
    return state.create(params, batch_stats, phase)


def as_batch(split):
    return step.Batch(jnp.asarray(split.images), jnp.asarray(split.labels))


def assert_close(first, second, tolerance):
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=0, atol=tolerance),
        first,
        second,
    )


def largest_difference(first, second):
    differences = jax.tree.map(lambda a, b: np.abs(a - b).max(), first, second)
    return max(jax.tree.leaves(differences))


# -- the loss


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.5, 0.99])
def test_cross_entropy_is_that_of_keras(smoothing):
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 5, (200, 10)).astype(np.float32)
    labels = rng.integers(0, 10, 200).astype(np.uint8)
    ours = step.cross_entropy(
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
    by_hand = step.cross_entropy(
        jnp.asarray(logits[:, :3]), jnp.asarray(labels % 3), smoothing=smoothing
    )
    np.testing.assert_allclose(by_hand, -(target * log_p).sum(axis=1), atol=1e-5)


# -- whole steps


@functools.cache
def lenet5_step(**fields):
    phase = make_phase(**fields)
    return phase, jax.jit(make_step(LENET5.apply, phase))


def test_a_step_is_adam_on_the_mean_cross_entropy(small):
    """Written out by hand: gradient of the mean loss, Kingma and Ba's first update."""
    phase, train_step = lenet5_step()
    before = make_state(LENET5, phase)
    after, metrics = train_step(before, as_batch(small.train), KEY)

    def loss_fn(params):
        images = jnp.asarray(small.train.images, jnp.float32) / 255
        logits, _ = LENET5.apply(params, {}, images, train=False)
        log_p = logits - jax.nn.logsumexp(logits, axis=1, keepdims=True)
        labels = jnp.asarray(small.train.labels, int)
        hits = (log_p.argmax(axis=1) == labels).mean()
        return -log_p[jnp.arange(64), labels].mean(), hits

    (loss, hits), gradients = jax.jit(jax.value_and_grad(loss_fn, has_aux=True))(
        before.params
    )
    np.testing.assert_allclose(metrics.loss, loss, rtol=1e-5)
    np.testing.assert_allclose(metrics.accuracy, hits, rtol=1e-6)
    # At the first step Adam's moments are g and g^2 after bias correction; Keras adds
    # epsilon before.
    eps = 1e-7 / np.sqrt(1 - 0.999)
    expected = jax.tree.map(
        lambda p, g: p - 1e-3 * g / (jnp.abs(g) + eps), before.params, gradients
    )
    assert_close(after.params, expected, 2e-5)
    assert (int(after.step), int(after.phase_step)) == (1, 1)


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
                from_logits=True, label_smoothing=phase.label_smoothing
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


def test_64_images_can_be_overfitted(small):
    phase, train_step = lenet5_step()
    batch = as_batch(small.train)
    current, metrics = train_step(make_state(LENET5, phase), batch, KEY)
    for _ in range(149):
        current, metrics = train_step(current, batch, KEY)
    assert float(metrics.accuracy) == 1.0
    assert float(metrics.loss) < 0.1


# -- everything at once, by a small network

EVERYTHING = {
    "batch_size": 12,
    "epochs": 2,
    "ema_decay": 0.3,
    "label_smoothing": 0.1,
    "optimizer.name": "rmsprop",
    "optimizer.clip_norm": 1.0,
    "schedule.name": "cosine",
    "schedule.warmup_epochs": 0.4,
    "plateau.monitor": "val_loss",
    "early_stopping.monitor": "val_loss",
    "early_stopping.restore_best": True,
}


@functools.cache
def everything(length):
    """A call of `length` steps with all that a config can turn on."""
    config = base.get_config().augment
    config.update(rotation=10.0, shift=0.1)
    augment_fn = augment.create(config)
    train_step = make_step(TINY.apply, make_phase(**EVERYTHING), augment_fn=augment_fn)
    return jax.jit(step.make_train_steps(train_step=train_step, steps=length))


def run(small, lengths):
    """An epoch cut into calls: the states after them, and all steps' metrics."""
    data = as_batch(small.train)
    indices = loop.epoch_order(jax.random.key(2), 1, size=64, batch_size=12)
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


@pytest.mark.slow
@pytest.mark.parametrize("lengths", [(2, 3), (5,)])
def test_an_epoch_cut_into_calls_is_the_same_epoch(small, one_by_one, lengths):
    """Five steps one by one, and through `lax.scan` in calls of 2, 3 and 5."""
    states, metrics = one_by_one
    chunked, chunked_metrics = run(small, lengths)
    assert int(chunked[-1].step) == int(chunked[-1].phase_step) == 5
    # XLA fuses a loop's body otherwise than a lone step: equal to rounding, not to the
    # bit.
    assert_close(chunked_metrics, metrics, 1e-5)
    assert_close(chunked[-1], states[-1], 1e-5)
    assert largest_difference(states[-1].params, states[0].params) > 1e-3


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


def test_without_a_moving_average_the_weights_themselves_are_judged():
    current = make_state(TINY, make_phase())
    assert current.ema == ()
    assert_trees_equal(current.weights, (current.params, current.batch_stats))


class Silence:
    """A listener that nobody hears."""

    def compiling(self):
        pass

    def steps_done(self, epoch, step, steps, loss):
        pass


def test_validation_and_best_are_of_the_moving_average(small):
    """Two epochs, the second of which is given the buffers of the first."""
    phase = make_phase(
        **EVERYTHING | {"ema_decay": 0.9, "optimizer.learning_rate": 1e-2}
    )
    trainer = loop.Trainer(
        apply_fn=TINY.apply,
        phase=phase,
        data=as_batch(small.train),
        val=as_batch(small.val),
        augment_fn=None,
        eval_batch_size=30,
        steps_per_call=1,
        monitor="val_loss",
        keys=loop.make_keys(0),
        listener=Silence(),
    )

    def loss_of(params, batch_stats):
        """Of the validation images, the labels as they are."""
        images = jnp.asarray(small.val.images, jnp.float32) / 255
        logits = np.float64(TINY.apply(params, batch_stats, images, train=False)[0])
        log_p = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
        hits = (logits.argmax(axis=1) == small.val.labels).mean()
        return -log_p[np.arange(30), small.val.labels].mean(), hits

    current, epochs = make_state(TINY, phase), []
    for epoch in (1, 2):
        current, (_, record) = trainer.run_epoch(current, epoch)
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


# -- what a step is told: by a network that only takes notes


def note(params, batch_stats, images, *, train, key):
    """Logits that depend on nothing but a parameter; what it saw, as statistics."""
    seen = {
        "train": jnp.float32(train),
        "key": jax.random.key_data(key),
        "images": images,
        "before": batch_stats["images"],
    }
    return jnp.broadcast_to(params["w"], (len(images), 10)), seen


def noting_state(phase, **fields):
    unseen = {
        "train": jnp.float32(False),
        "key": jnp.zeros(2, jnp.uint32),
        "images": jnp.zeros((3, 4, 4, 1)),
        "before": jnp.zeros((3, 4, 4, 1)),
    }
    current = state.create({"w": jnp.linspace(-1, 1, 10)}, unseen, phase)
    return current.replace(**{k: jnp.int32(v) for k, v in fields.items()})


BATCH = step.Batch(
    jnp.arange(3 * 16, dtype=jnp.uint8).reshape(3, 4, 4, 1),
    jnp.array([3, 1, 3], jnp.uint8),
)


def noting_gradient():
    """Of the mean cross-entropy, for the logits of `noting_state`."""
    w = np.linspace(-1, 1, 10)
    target = np.zeros(10)
    target[[1, 3]] = 1 / 3, 2 / 3
    return np.exp(w) / np.exp(w).sum() - target


@pytest.mark.parametrize("phase_step", [0, 1, 7])
@pytest.mark.parametrize("scale", [1.0, 0.25, 0.3])
def test_the_rate_is_the_schedule_s_at_the_phase_s_step_times_the_plateau_s(
    phase_step, scale
):
    phase = make_phase(
        **{
            "epochs": 10,
            "optimizer.name": "sgd",
            "optimizer.learning_rate": 0.5,
            "schedule.name": "exponential",
            "schedule.decay_rate": 0.5,
        }
    )
    before = noting_state(phase, step=100, phase_step=phase_step)
    plateau = before.plateau
    plateau = plateau.replace(
        reduction=plateau.reduction._replace(scale=jnp.float32(scale))
    )
    before = before.replace(plateau=plateau)
    train_step = make_step(note, phase, steps_per_epoch=1)
    after, _ = train_step(before, BATCH, KEY)
    rate = 0.5 * 0.5**phase_step * scale
    expected = np.linspace(-1, 1, 10) - rate * noting_gradient()
    np.testing.assert_allclose(after.params["w"], expected, atol=1e-6)
    assert (int(after.step), int(after.phase_step)) == (101, phase_step + 1)
    assert float(after.plateau.scale) == np.float32(scale)
    # A new phase starts at the schedule's beginning, and at full rate.
    fresh = state.begin_phase(after, phase)
    fresh = fresh.replace(params=before.params)
    first, _ = train_step(fresh, BATCH, KEY)
    expected = np.linspace(-1, 1, 10) - 0.5 * noting_gradient()
    np.testing.assert_allclose(first.params["w"], expected, atol=1e-6)


def test_the_moving_average_changes_nothing_of_the_training():
    def train(**fields):
        phase = make_phase(**fields)
        current = noting_state(phase)
        for _ in range(3):
            current, _ = make_step(note, phase)(current, BATCH, KEY)
        return current

    plain, averaged = train(), train(ema_decay=0.9)
    for name in ("step", "phase_step", "params", "batch_stats", "opt_state"):
        assert_trees_equal(getattr(plain, name), getattr(averaged, name))


def draw(key, images):
    """An augmentation of which one can see the key, and what it was given."""
    return images + 2 * jax.random.uniform(key) + 1


def seen_by_steps(augment_fn, *, key=KEY, steps=5, first=0):
    """What the network is given in each step, the draws of the augmentation with it."""
    phase = make_phase()
    train_step = make_step(note, phase, augment_fn=augment_fn)
    current, every = noting_state(phase, step=first), []
    for _ in range(steps):
        current, _ = train_step(current, BATCH, key)
        every.append(current.batch_stats)
    return jax.tree.map(lambda *x: np.stack(x), *every)


def test_each_step_augments_anew_and_the_model_draws_the_same_without():
    plain, augmented = seen_by_steps(None), seen_by_steps(draw)
    assert plain["train"].all() and augmented["train"].all()
    scaled = np.arange(48).reshape(1, 3, 4, 4, 1).repeat(5, axis=0) / 255
    np.testing.assert_allclose(plain["images"], scaled, rtol=1e-6)
    # One draw for a batch, from images in 0..1, another each step.
    added = augmented["images"] - plain["images"]
    np.testing.assert_allclose(added, added[:, :1, :1, :1, :1] + 0 * added, atol=1e-6)
    assert len(np.unique(added[:, 0, 0, 0, 0])) == 5
    assert len(np.unique(plain["key"], axis=0)) == 5
    np.testing.assert_array_equal(plain["key"], augmented["key"])
    # No draw of the augmentation is one that the model could make with its own key.
    for key, offset in zip(plain["key"], added[:, 0, 0, 0, 0], strict=True):
        own = jax.random.uniform(jax.random.wrap_key_data(jnp.asarray(key)))
        assert abs(2 * own + 1 - offset) > 1e-4


def test_draws_depend_on_the_run_s_key_and_its_step_alone():
    """Not on the phase's: the second phase does not draw what the first did."""
    whole = seen_by_steps(draw)
    late = seen_by_steps(draw, steps=2, first=3)
    np.testing.assert_array_equal(late["key"], whole["key"][3:])
    np.testing.assert_array_equal(late["images"], whole["images"][3:])
    other = seen_by_steps(draw, key=jax.random.key(2))
    assert (other["key"] != whole["key"]).any(axis=1).all()
    assert (other["images"] != whole["images"]).all()


def test_the_statistics_that_a_step_leaves_are_the_next_one_s():
    phase = make_phase()
    train_step = make_step(note, phase)
    first, _ = train_step(noting_state(phase), BATCH, KEY)
    assert not first.batch_stats["before"].any()
    second, _ = train_step(first, BATCH, KEY)
    np.testing.assert_array_equal(
        second.batch_stats["before"], first.batch_stats["images"]
    )


# -- the order of the images, prediction, input


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


@pytest.fixture(scope="module")
def judged(small):
    """Images, weights with statistics that have moved, and the logits by these."""
    params, batch_stats = weights(TINY)
    batch_stats = jax.tree.map(lambda x: x + 0.5, batch_stats)
    images = jnp.asarray(small.val.images)
    scaled = step.to_input(images)
    logits, _ = TINY.apply(params, batch_stats, scaled, train=False)
    fresh, _ = TINY.apply(params, weights(TINY)[1], scaled, train=False)
    assert largest_difference(logits, fresh) > 1e-3
    return images, params, batch_stats, logits


@pytest.mark.parametrize("batch_size", [1, 7, 30, 1000])
def test_prediction_covers_every_image_whatever_the_batch(judged, batch_size):
    """Without dropout, and with BatchNorm's running statistics."""
    images, params, batch_stats, expected = judged
    predict = loop.make_predict(apply_fn=TINY.apply, batch_size=batch_size)
    logits = predict(params, batch_stats, images)
    assert logits.shape == (30, 10)
    np.testing.assert_allclose(logits, expected, atol=1e-5)


def test_input_is_0_to_1():
    images = jnp.arange(256, dtype=jnp.uint8).reshape(1, 16, 16, 1)
    scaled = np.asarray(step.to_input(images))
    assert scaled.dtype == np.float32
    # XLA multiplies by 1/255 instead, which can differ in the last bit.
    np.testing.assert_allclose(scaled.ravel(), np.arange(256) / 255, rtol=2e-7)
    assert (scaled.min(), scaled.max()) == (0.0, 1.0)


# -- from phase to phase

ADAMW = {"optimizer.name": "adamw", "batch_size": 8}


def trained(one_by_one, *, best_epoch=4):
    """A state at the end of a phase, in which all weights are told apart."""
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
        plateau=plateau.replace(
            epochs=jnp.int32(5),
            value=jnp.float32(0.5),
            reduction=plateau.reduction._replace(scale=jnp.float32(0.1)),
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


def test_a_run_begins_with_what_it_was_given():
    phase = make_phase(**EVERYTHING)
    current = make_state(TINY, phase)
    assert_trees_equal(weights_in(current), weights(TINY))
    assert_trees_equal(current.weights, weights(TINY))
    assert_trees_equal(current.opt_state, phase.optimizer.init(weights(TINY)[0]))
    assert (int(current.step), int(current.phase_step)) == (0, 0)
    assert int(current.best.epoch) == 0 and np.isnan(current.best.value)
    assert_no_shared_buffers(current)


def test_a_second_phase_averages_with_a_short_memory_again(small, one_by_one):
    """The average's warm-up counts the phase's steps."""
    phase = make_phase(**EVERYTHING)
    before = state.begin_phase(state.end_phase(trained(one_by_one), phase), phase)
    data = as_batch(small.train)
    indices = loop.epoch_order(jax.random.key(2), 2, size=64, batch_size=12)
    after, _ = everything(1)(before, data, indices, np.int32(0), KEY)
    expected = jax.tree.map(
        lambda a, b: 2 / 11 * a + 9 / 11 * b, before.ema, weights_in(after)
    )
    assert_close(after.ema, expected, 1e-6)
    assert largest_difference(after.params, before.params) > 1e-4
