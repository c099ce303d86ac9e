"""What a step reads and hands on: input, rate, random draws, statistics."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mnist_jax import models
from mnist_jax.data import Task
from mnist_jax.models import layers
from mnist_jax.training import state, step
from tests.conftest import assert_trees_equal
from tests.support.training_parts import KEY, make_phase, make_state, make_step

pytestmark = pytest.mark.usefixtures("little_optimized")


def test_input_is_0_to_1():
    images = jnp.arange(256, dtype=jnp.uint8).reshape(1, 16, 16, 1)
    scaled = np.asarray(step.to_input(images))
    assert scaled.dtype == np.float32
    # XLA multiplies by 1/255 instead, which can differ in the last bit.
    np.testing.assert_allclose(scaled.ravel(), np.arange(256) / 255, rtol=2e-7)
    assert (scaled.min(), scaled.max()) == (0.0, 1.0)


# -- by a network that only takes notes


def note(params, batch_stats, images, *, train, key, labels, momentum):
    """Logits that depend on nothing but a parameter; what it saw, as statistics."""
    seen = {
        "train": jnp.float32(train),
        "key": jax.random.key_data(key),
        "images": images,
        "before": batch_stats["images"],
    }
    return models.Outputs(jnp.broadcast_to(params["w"], (len(images), 10))), seen


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
    plateau = before.plateau._replace(scale=jnp.float32(scale))
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


def draw(key, images, phase_step, labels):
    """An augmentation whose result shows its key and its input."""
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


def test_the_augmentation_is_told_the_step_of_the_phase():
    """Not of the run: each phase fades by itself."""
    phase = make_phase()
    train_step = make_step(note, phase, augment_fn=lambda _, x, step, __: 0 * x + step)
    for phase_step in (0, 7):
        before = noting_state(phase, step=100, phase_step=phase_step)
        after, _ = train_step(before, BATCH, KEY)
        np.testing.assert_array_equal(after.batch_stats["images"], phase_step)


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


class Normalised(nn.Module):
    """Classes straight from the normalised pixels: no weights are before BatchNorm."""

    norm: type[nn.Module]

    @nn.compact
    def __call__(self, images, *, train):
        x = self.norm(momentum=0.9, name="norm")(images, use_running_average=not train)
        return layers.Dense(3, name="logits")(x.reshape(x.shape[0], -1))


@pytest.mark.parametrize("limit", [1.0, 0.5])
@pytest.mark.parametrize("norm", [layers.BatchNorm, nn.BatchNorm])
def test_the_initial_statistics_do_not_count(norm, limit):
    """The mean over all steps at first, then the layer's own average or the limit's."""
    task = Task(("a", "b", "c"), (4, 4, 1))
    model, phase = models.Model("normalised", Normalised(norm), task), make_phase()
    one = make_step(model.apply, phase, loss_fn=model.loss, batch_norm_momentum=limit)
    train_step, current = jax.jit(one), make_state(model, phase)
    rng, rate = np.random.default_rng(0), min(0.9, limit)
    images = rng.integers(0, 256, (30, 3, 4, 4, 1), dtype=np.uint8)
    images[1::2] //= 3
    expected = np.zeros(2)
    for number, batch in enumerate(images):
        labels = jnp.array([0, 1, 2], jnp.uint8)
        current, _ = train_step(current, step.Batch(jnp.asarray(batch), labels), KEY)
        found = (batch / 255).mean(), (batch / 255).var()
        keep = min(rate, number / (number + 1))
        expected = keep * expected + (1 - keep) * np.array(found)
        stats = current.batch_stats["norm"]
        np.testing.assert_allclose([stats["mean"][0], stats["var"][0]], expected, 1e-5)
        if keep < rate:
            seen = images[: number + 1] / 255
            np.testing.assert_allclose(stats["mean"][0], seen.mean(), rtol=1e-5)
