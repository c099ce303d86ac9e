"""Bad optimizer settings are refused by name."""

import math

import jax.numpy as jnp
import numpy as np
import pytest

from configs import base
from mnist_jax.errors import UserError
from mnist_jax.training import optimizer


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("name", "adamm"),
        ("learning_rate", 0.0),
        ("learning_rate", -1e-3),
        ("learning_rate", float("nan")),
        ("b1", 1.0),
        ("b2", -0.1),
        ("eps", 0.0),
    ],
)
def test_refuses(field, value):
    config = base.get_phase().optimizer
    config[field] = value
    with pytest.raises(UserError, match=f"{field}={value}"):
        optimizer.create(config)


def test_adam_has_every_number_of_the_config():
    """Three updates of one number, against Kingma and Ba's formulas in plain Python."""
    config = base.get_phase().optimizer
    config.update(learning_rate=0.1, b1=0.5, b2=0.7, eps=0.2)
    adam = optimizer.create(config)
    params = jnp.array(1.0)
    opt_state = adam.init(params)
    m = v = 0.0
    for step, gradient in enumerate([2.0, -1.0, 0.5], start=1):
        updates, opt_state = adam.update(jnp.array(gradient), opt_state, params)
        m = 0.5 * m + 0.5 * gradient
        v = 0.7 * v + 0.3 * gradient**2
        m_hat, v_hat = m / (1 - 0.5**step), v / (1 - 0.7**step)
        expected = -0.1 * m_hat / (math.sqrt(v_hat) + 0.2)
        np.testing.assert_allclose(np.asarray(updates), expected, rtol=1e-5)
