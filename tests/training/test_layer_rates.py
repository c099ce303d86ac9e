"""Learning rates by layer: a factor is exactly a rate of its own, and named exactly."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from mnist_jax import tree
from mnist_jax.errors import UserError
from mnist_jax.training import optimizer, step
from mnist_jax.training.layer_rates import LayerRates
from tests.conftest import assert_trees_equal
from tests.support.training_parts import (
    EVERYTHING,
    TINY,
    make_phase,
    make_state,
    make_step,
)

KEY = jax.random.key(0)
PARAMS = {
    "block1_conv1": {"kernel": jnp.ones((2, 3)), "bias": jnp.ones(3)},
    "block2_conv1": {"kernel": jnp.ones((3, 4)), "bias": jnp.ones(4)},
    "logits": {"kernel": jnp.ones((4, 2)), "bias": jnp.ones(2)},
}


def factors_of(*entries):
    return {
        tree.name_of(path): factor
        for path, factor in jax.tree_util.tree_leaves_with_path(
            LayerRates(entries).factors(PARAMS)
        )
    }


@pytest.mark.parametrize(
    ("entries", "expected"),
    [
        ((), {}),
        (("block=0.1",), {"block1_conv1": 0.1, "block2_conv1": 0.1}),
        (("conv1=0.1",), {}),  # from the beginning of a name
        (
            ("block1_=0.01", "block=0.1"),  # the first that matches
            {"block1_conv1": 0.01, "block2_conv1": 0.1},
        ),
        (("block=0.1", "block1_=0.01"), {"block1_conv1": 0.1, "block2_conv1": 0.1}),
        (("logits=3",), {"logits": 3.0}),
        (("(?=logits)=2e-1",), {"logits": 0.2}),  # the last "=" divides
    ],
)
def test_the_first_expression_that_matches_a_name_counts(entries, expected):
    for name, factor in factors_of(*entries).items():
        assert factor == expected.get(name.split("/")[0], 1.0), name


def test_an_expression_may_name_a_single_parameter():
    factors = factors_of("logits/bias=2")
    assert [name for name, factor in factors.items() if factor == 2] == ["logits/bias"]


def test_the_table_says_the_factors_of_each_layer():
    table = LayerRates(("block1_=0.01", "logits/bias=2")).table(PARAMS)
    rows = [line.split(maxsplit=1) for line in table.splitlines()]
    assert rows == [
        ["block1_conv1", "0.01"],
        ["block2_conv1", "1"],
        ["logits", "1, 2"],
    ]


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        (("block",), "rates: 'block' must be a regular expression, \"=\" and a factor"),
        (("=0.1",), "'=0.1' must be"),
        (("block=",), "'block=' must be"),
        (("block=fast",), "'block=fast' must be"),
        (("block=0",), "'block=0' must be .* above 0.*`freeze`"),
        (("block=-1",), "'block=-1' must be"),
        (("block=nan",), "'block=nan' must be"),
        (("block=inf",), "'block=inf' must be"),
        (("block[=0.1",), r"rates: 'block\[' is not a regular expression"),
        (("logits=1", "block3_=0.1"), "'block3_' matches no parameter. .*block1_conv1"),
    ],
)
def test_what_does_not_fit_is_refused(entries, message):
    with pytest.raises(UserError, match=message):
        LayerRates(entries, flag="rates").check(PARAMS)


def test_a_phase_hands_its_flag_on_and_checks_the_names():
    with pytest.raises(UserError, match="phase.layer_rates: 'conv' must be"):
        make_phase(layer_rates=("conv",))
    phase = make_phase(layer_rates=("block=0.1",))
    with pytest.raises(UserError, match="phase.layer_rates: 'block' matches no"):
        phase.layer_rates.check(make_state(TINY, phase).params)


def train(phase, steps=3):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (12, 28, 28, 1), np.uint8)
    labels = rng.integers(0, 10, 12)
    batch = step.Batch(jnp.asarray(images), jnp.asarray(labels))
    current = make_state(TINY, phase)
    train_step = jax.jit(make_step(TINY.apply, phase))
    for _ in range(steps):
        current, _ = train_step(current, batch, KEY)
    return current


@pytest.mark.parametrize("name", ["adam", "adamw", "rmsprop", "sgd"])
def test_a_factor_is_a_learning_rate_of_its_own(name):
    """As two optimizers would, one for each part, each at its own rate."""
    fields = {"name": name, "weight_decay": 0.1, "momentum": 0.9}
    phase = make_phase(**{f"optimizer.{k}": v for k, v in fields.items()})
    config, params = phase.config.optimizer, PARAMS
    labels = {layer: "slow" if "block" in layer else "fast" for layer in params}
    slow = optax.chain(optimizer.create(config), optax.scale(0.25))
    apart = optax.multi_transform(
        {"slow": slow, "fast": optimizer.create(config)}, labels
    )
    together = LayerRates(("block=0.25",)).wrap(optimizer.create(config))
    states = apart.init(params), together.init(params)
    rng = np.random.default_rng(0)
    for _ in range(3):
        gradients = jax.tree.map(
            lambda p: jnp.asarray(rng.normal(size=p.shape), jnp.float32), params
        )
        one, first = apart.update(gradients, states[0], params)
        other, second = together.update(gradients, states[1], params)
        states = first, second
        assert_trees_equal(one, other)


def test_a_factor_of_one_changes_nothing_and_another_only_its_own_layer():
    fields = {"optimizer.name": "sgd", "optimizer.learning_rate": 0.1}
    plain = train(make_phase(**fields), steps=1).params
    same = train(make_phase(**fields, layer_rates=(".*=1",)), steps=1).params
    assert_trees_equal(same, plain)
    slow = train(make_phase(**fields, layer_rates=("conv=0.25",)), steps=1).params
    begin = make_state(TINY, make_phase(**fields)).params
    for layer in begin:
        factor = 0.25 if layer == "conv" else 1.0
        for name, value in begin[layer].items():
            np.testing.assert_allclose(
                slow[layer][name] - value,
                factor * (plain[layer][name] - value),
                rtol=1e-4,
                atol=1e-7,
            )
    moved = np.abs(plain["conv"]["kernel"] - begin["conv"]["kernel"])
    assert moved.max() > 1e-4


def test_it_goes_with_freezing_and_everything_else():
    fields = EVERYTHING | {"freeze": ("conv",), "layer_rates": ("logits=0.5",)}
    begin = make_state(TINY, make_phase(**fields)).params
    after = train(make_phase(**fields)).params
    assert_trees_equal(after["conv"], begin["conv"])
    assert not np.array_equal(after["logits"]["kernel"], begin["logits"]["kernel"])
    other = train(make_phase(**(fields | {"layer_rates": ()}))).params
    assert not np.array_equal(after["logits"]["kernel"], other["logits"]["kernel"])
