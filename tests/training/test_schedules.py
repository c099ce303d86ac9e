"""The schedules: their closed forms, Keras's, and what holds for all of them."""

import math
import os

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mnist_jax.config import Schedule, parse
from mnist_jax.errors import UserError
from mnist_jax.training import schedules

os.environ.setdefault("KERAS_BACKEND", "jax")
import keras  # reads the variable

PEAK = 2e-3
# More than any phase here has: one length, so that nothing is compiled twice.
STEPS = jnp.arange(8192)
NAMES = list(schedules.SCHEDULES)

many = settings(max_examples=40, deadline=None)
lengths = given(
    epochs=st.integers(1, 12),
    steps_per_epoch=st.integers(1, 640),
    # Quarters of an epoch and less: exact in binary.
    warmup_epochs=st.integers(0, 12).map(lambda n: n / 4),
    share=st.floats(0, 1),
    rising=st.floats(0, 0.999),
)


def make_config(**fields):
    return parse(fields, Schedule, flag="a.flag")


def rates(config, *, epochs, steps_per_epoch, more=0):
    """The learning rates of all steps of a phase, and of some after it."""
    schedules.check(config, epochs=epochs)
    schedule = schedules.create(
        config, peak=PEAK, epochs=epochs, steps_per_epoch=steps_per_epoch
    )
    every = np.asarray(jnp.broadcast_to(schedule(STEPS), STEPS.shape))
    return every[: epochs * steps_per_epoch + more]


def allowed_warmup(name, warmup_epochs, epochs):
    """None where it would be refused: as long as the phase, or before one_cycle."""
    refused = name == "one_cycle" or warmup_epochs > epochs
    return 0.0 if refused else float(warmup_epochs)


def cosine(steps, alpha):
    """From the peak at 0 to `alpha` of it at `steps`, one beyond the last."""
    fall = (1 + np.cos(np.pi * np.arange(steps + 1) / steps)) / 2
    return PEAK * (alpha + (1 - alpha) * fall)


def closed_form(name, steps, steps_per_epoch, share, rising):
    if name == "constant":
        return np.full(steps + 1, PEAK)
    if name == "exponential":
        return PEAK * 0.9 ** (np.arange(steps + 1) / steps_per_epoch)
    if name == "cosine":
        return cosine(steps, share)
    rising = min(round(rising * steps), steps - 1)
    rise = np.linspace(0.1 * PEAK, PEAK, rising, endpoint=False)
    return np.concatenate([rise, cosine(steps - rising, share)])


@pytest.mark.parametrize("name", NAMES)
@many
@lengths
# A phase of one step; and where rounding would have one_cycle rise to the end.
@example(epochs=1, steps_per_epoch=1, warmup_epochs=0, share=0.0, rising=0.6)
@example(epochs=1, steps_per_epoch=40, warmup_epochs=0, share=0.0, rising=0.99)
def test_each_has_its_closed_form(
    name, epochs, steps_per_epoch, warmup_epochs, share, rising
):
    """A warm-up precedes it, takes its steps from the phase's, and begins above 0."""
    warmup_epochs = allowed_warmup(name, warmup_epochs, epochs)
    config = make_config(
        name=name,
        final_factor=share,
        warmup_epochs=warmup_epochs,
        rising=rising,
        first_factor=0.1,
        decay_rate=0.9,
    )
    steps = epochs * steps_per_epoch
    warmup = min(math.ceil(warmup_epochs * steps_per_epoch), steps - 1)
    rise = PEAK * np.arange(1, warmup + 1) / (warmup + 1)
    after = closed_form(name, steps - warmup, steps_per_epoch, share, rising)
    wanted = np.concatenate([rise, after])
    ours = rates(config, epochs=epochs, steps_per_epoch=steps_per_epoch, more=1)
    assert ours.dtype == np.float32
    np.testing.assert_allclose(ours, wanted, rtol=1e-5, atol=1e-6 * PEAK)


@pytest.mark.parametrize("alpha", [0.0, 0.01, 0.5])
@pytest.mark.parametrize("warmup_epochs", [0, 2])
def test_cosine_is_that_of_keras(alpha, warmup_epochs):
    config = make_config(
        name="cosine", final_factor=alpha, warmup_epochs=float(warmup_epochs)
    )
    warmup, steps = warmup_epochs * 7, 70
    warm = {"warmup_target": PEAK, "warmup_steps": warmup} if warmup else {}
    schedule = keras.optimizers.schedules.CosineDecay(
        PEAK / (warmup + 1), steps - warmup, alpha=alpha, **warm
    )
    theirs = np.array(jax.jit(jax.vmap(schedule))(jnp.arange(steps + 20)))
    ours = rates(config, epochs=10, steps_per_epoch=7, more=20)
    np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6 * PEAK)


@pytest.mark.parametrize("decay_rate", [0.5, 0.95, 1.0])
def test_exponential_is_that_of_keras(decay_rate):
    config = make_config(name="exponential", decay_rate=decay_rate)
    schedule = keras.optimizers.schedules.ExponentialDecay(PEAK, 7, decay_rate)
    theirs = np.array(jax.vmap(schedule)(jnp.arange(70)))
    ours = rates(config, epochs=10, steps_per_epoch=7)
    np.testing.assert_allclose(ours, theirs, rtol=1e-5)
    # An epoch multiplies by the rate.
    np.testing.assert_allclose(ours[::7], PEAK * decay_rate ** np.arange(10), rtol=1e-5)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            {"warmup_epochs": 5.5},
            r"warmup_epochs=5\.5: must be at most the .* 5 epochs",
        ),
        ({"name": "one_cycle", "warmup_epochs": 0.5}, "warmup.* must be 0 for one_cyc"),
    ],
)
def test_refuses(fields, message):
    with pytest.raises(UserError, match=rf"^a\.flag\.{message}"):
        schedules.check(make_config(**fields), epochs=5, flag="a.flag")
