"""Bad optimizer settings are refused by name."""

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
