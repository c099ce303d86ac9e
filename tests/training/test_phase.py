"""A phase's config is refused by the flag's full name, before any work."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest

from configs import base
from mnist_jax.config import Phase as PhaseConfig
from mnist_jax.config import parse
from mnist_jax.errors import UserError
from mnist_jax.training import phase as phases

FLAG = "--config.phases[1]"


def make_phase(**fields):
    values = base.get_phase()
    values.update_from_flattened_dict(fields)
    return phases.create(parse(values, PhaseConfig, flag=FLAG), flag=FLAG)


@pytest.mark.parametrize(
    ("batch_size", "train_size", "steps"),
    [(86, 54_000, 627), (15, 64, 4), (64, 64, 1), (1, 5, 5)],
)
def test_steps_of_an_epoch_are_whole_batches(batch_size, train_size, steps):
    phase = make_phase(batch_size=batch_size)
    assert phase.steps_per_epoch(train_size) == steps
    phases.check_batch_sizes([phase], train_size=train_size)


def test_a_batch_that_cannot_be_filled_is_refused():
    with pytest.raises(UserError) as error:
        phases.check_batch_sizes(
            [make_phase(), make_phase(batch_size=87)], train_size=86
        )
    message = str(error.value)
    assert message.startswith(f"{FLAG}.batch_size=87: ") and "86 images" in message


def test_the_schedule_spans_the_phase():
    phase = make_phase(
        epochs=4,
        **{
            "optimizer.learning_rate": 0.5,
            "schedule.name": "cosine",
            "schedule.final_factor": 0.1,
        },
    )
    learning_rate_fn = phase.learning_rate_fn(10)
    learning_rates = [np.asarray(learning_rate_fn(step)) for step in (0, 20, 40)]
    np.testing.assert_allclose(learning_rates, [0.5, 0.275, 0.05], rtol=1e-6)


def test_each_phase_is_named_by_its_place():
    good, bad = (parse(base.get_phase(), PhaseConfig) for _ in range(2))
    bad = dataclasses.replace(bad, freeze=("(",))
    with pytest.raises(UserError, match=r"^--config\.phases\[1\]\.freeze"):
        phases.create_all([good, bad], {})
    created = phases.create_all([good, good], {"w": jnp.zeros(1)})
    assert [phase.config for phase in created] == [good, good]
