"""Frozen parameters stay bit-identical; a factor is exactly another learning rate."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from mnist_jax import models, tree
from mnist_jax.config import Model
from mnist_jax.data import DIGITS
from mnist_jax.errors import UserError
from mnist_jax.training import optimizer, state, step
from mnist_jax.training.groups import Groups
from tests.conftest import assert_trees_equal
from tests.support.training_parts import (
    EVERYTHING,
    TINY,
    make_phase,
    make_state,
    make_step,
)

pytestmark = pytest.mark.usefixtures("little_optimized")

KEY = jax.random.key(0)
NESTED = models.create(Model("tests.support.own_nets:TwoOutputs"), DIGITS)
PARAMS = {
    "block1": {
        "conv1": {"kernel": jnp.ones((2, 3)), "bias": jnp.ones(3)},
        "norm": {"scale": jnp.ones(3), "bias": jnp.ones(3)},
    },
    "block2_conv1": {"kernel": jnp.ones((3, 4)), "bias": jnp.ones(4)},
    "logits": {"kernel": jnp.ones((4, 2)), "bias": jnp.ones(2)},
}


def make_batch():
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (12, 28, 28, 1), np.uint8)
    return step.Batch(jnp.asarray(images), jnp.asarray(rng.integers(0, 10, 12)))


def train(phase, *, model=TINY, steps=3):
    current = make_state(model, phase)
    train_step = jax.jit(make_step(model.apply, phase, loss_fn=model.loss))
    for _ in range(steps):
        current, _ = train_step(current, make_batch(), KEY)
    return current


def by_name(values):
    return {
        tree.name_of(path): value
        for path, value in jax.tree_util.tree_leaves_with_path(values)
    }


# -- names


@pytest.mark.parametrize(
    ("freeze", "expected"),
    [
        ((), set()),
        (("logits/bias",), {"logits/bias"}),
        (("block1/conv1",), {"block1/conv1/kernel", "block1/conv1/bias"}),
        (("conv1",), set()),  # from the beginning of a name
        (("logits/k", "block2_.*/b"), {"logits/kernel", "block2_conv1/bias"}),
    ],
)
def test_what_is_frozen_has_no_rate(freeze, expected):
    factors = by_name(Groups(freeze).factors(PARAMS))
    assert {name for name, factor in factors.items() if factor == 0} == expected
    assert set(factors.values()) <= {0.0, 1.0}


@pytest.mark.parametrize(
    ("entries", "expected"),
    [
        ((), {}),
        (("block=0.1",), {"block1": 0.1, "block2_conv1": 0.1}),
        # The first that matches.
        (("block1/=0.01", "block=0.1"), {"block1": 0.01, "block2_conv1": 0.1}),
        (("block=0.1", "block1/=0.01"), {"block1": 0.1, "block2_conv1": 0.1}),
        (("(?=logits)=2e-1",), {"logits": 0.2}),  # the last "=" divides
    ],
)
def test_the_first_expression_that_matches_a_name_counts(entries, expected):
    for name, factor in by_name(Groups((), entries).factors(PARAMS)).items():
        assert factor == expected.get(name.split("/")[0], 1.0), name


def test_a_layer_counts_as_frozen_only_if_all_of_it_is():
    groups = Groups(("block1/norm/scale", "block1/conv1", "block2"))
    assert groups.frozen_layers(PARAMS) == {"block1/conv1", "block2_conv1"}
    assert Groups().frozen_layers(PARAMS) == frozenset()


@pytest.mark.parametrize(
    ("freeze", "rates", "message"),
    [
        (("block[",), (), r"p.freeze: 'block\[' is not a regular expression"),
        (("block3",), (), "'block3' matches no parameter. .*block1/conv1.*logits"),
        (("block", "logits"), (), "matches every parameter: there is nothing to train"),
        ((), ("block",), "p.layer_rates: 'block' must be a regular expression, \"=\""),
        ((), ("=0.1",), "'=0.1' must be"),
        ((), ("block=fast",), "'block=fast' must be"),
        ((), ("block=0",), "'block=0' must be .* above 0.*`freeze`"),
        ((), ("block=nan",), "'block=nan' must be"),
        ((), ("block[=0.1",), r"p.layer_rates: 'block\[' is not a regular expression"),
        ((), ("logits=1", "block3=0.1"), "'block3' matches no parameter. .*block1/co"),
    ],
)
def test_expressions_that_do_not_fit_are_refused(freeze, rates, message):
    with pytest.raises(UserError, match=message):
        Groups(freeze, rates, flag="p").check(PARAMS)


# -- freezing

NORM_BEHIND = ("norm", "logits/bias")


@pytest.mark.parametrize(
    ("model", "freeze", "optimizer"),
    [
        *((TINY, ("conv",), name) for name in ("rmsprop", "sgd")),
        (TINY, NORM_BEHIND, "adamw"),
        (TINY, (".*/kernel",), "adamw"),
        (NESTED, ("block1",), "adamw"),
        (NESTED, ("block1/conv", "block2/norm/scale"), "adam"),
    ],
)
def test_what_is_frozen_stays_to_the_bit_and_the_rest_moves(model, freeze, optimizer):
    fields = EVERYTHING | {"freeze": freeze, "optimizer.name": optimizer}
    fields |= {"optimizer.momentum": 0.9, "optimizer.weight_decay": 0.1}
    fields |= {"layer_rates": ("logits=0.5",)}
    phase = make_phase(**fields)
    before = make_state(model, phase)
    after = train(phase, model=model)
    factors = by_name(phase.groups.factors(before.params))
    assert {0, 0.5} <= set(factors.values())
    old, new = by_name(before.params), by_name(after.params)
    for name, factor in factors.items():
        assert np.array_equal(old[name], new[name]) == (factor == 0), name
    # BatchNorm's statistics stay where the whole layer is frozen.
    frozen = phase.groups.frozen_layers(before.params)
    old, new = by_name(before.batch_stats), by_name(after.batch_stats)
    for name in old:
        layer = name.rpartition("/")[0]
        assert np.array_equal(old[name], new[name]) == (layer in frozen), name


def test_what_is_frozen_has_no_moments():
    def count(**fields):
        phase = make_phase(**{"optimizer.name": "adam"}, **fields)
        return tree.count_parameters(make_state(TINY, phase).opt_state)

    params = make_state(TINY, make_phase()).params
    frozen = tree.count_parameters(params["conv"])
    assert count() - count(freeze=("conv",)) == 2 * frozen


def test_the_others_go_where_they_would_if_the_frozen_ones_gave_no_gradient():
    """Gradient clipping, for one, must not count what is frozen."""
    fields = {"optimizer.name": "sgd", "optimizer.clip_norm": 0.05}
    phase = make_phase(**fields, freeze=("conv", "norm"))
    current, batch = make_state(TINY, phase), make_batch()
    after = train(phase, steps=1)

    def loss(logits_params):
        params = current.params | {"logits": logits_params}
        (logits, _), _ = TINY.apply(
            params,
            current.batch_stats,
            step.to_input(batch.images),
            train=True,
            key=jax.random.fold_in(KEY, 0),
            frozen=("norm",),
        )
        return models.cross_entropy(logits, batch.labels).mean()

    gradients = jax.jit(jax.grad(loss))(current.params["logits"])
    norm = np.sqrt(sum(np.sum(g**2) for g in jax.tree.leaves(gradients)))
    assert norm > 0.05
    rate = phase.config.optimizer.learning_rate
    jax.tree.map(
        lambda new, old, g: np.testing.assert_allclose(
            new, old - rate * g * 0.05 / norm, rtol=1e-4, atol=1e-7
        ),
        after.params["logits"],
        current.params["logits"],
        gradients,
    )


@functools.cache
def flops(freeze):
    """Of a compiled step of VGG16 on two images."""
    model = models.create(Model("vgg16"), DIGITS)
    phase = make_phase(freeze=freeze, batch_size=2)
    images = jnp.zeros((2, 28, 28, 1), jnp.uint8)
    train_step = make_step(model.apply, phase, loss_fn=model.loss)
    # Before XLA's own rewriting, which on some backends hides a convolution's FLOPs.
    lowered = jax.jit(train_step).lower(
        state.shapes(model, phase), step.Batch(images, jnp.zeros(2, jnp.uint8)), KEY
    )
    analysis = lowered.cost_analysis()
    assert analysis is not None
    return analysis["flops"]


@pytest.mark.slow
def test_a_frozen_body_costs_no_backward_pass():
    """VGG16: of forward, gradient by kernels and gradient by inputs, one is left."""
    everything, head, two_blocks = flops(()), flops(("block",)), flops(("block[12]_",))
    assert everything / head == pytest.approx(3, rel=0.1)
    assert head < two_blocks < everything


# -- learning rates


@pytest.mark.parametrize("name", ["adam", "adamw", "rmsprop", "sgd"])
def test_a_factor_is_a_learning_rate_of_its_own(name):
    """As two optimizers would, one for each part, each at its own rate."""
    fields = {"name": name, "weight_decay": 0.1, "momentum": 0.9}
    phase = make_phase(**{f"optimizer.{k}": v for k, v in fields.items()})
    create = functools.partial(optimizer.create, phase.config.optimizer)
    labels = {layer: "slow" if "block" in layer else "fast" for layer in PARAMS}
    slow = optax.chain(create(), optax.scale(0.25))
    apart = optax.multi_transform({"slow": slow, "fast": create()}, labels)
    together = Groups((), ("block=0.25",)).wrap(create())
    states = apart.init(PARAMS), together.init(PARAMS)
    rng = np.random.default_rng(0)
    for _ in range(3):
        gradients = jax.tree.map(
            lambda p: jnp.asarray(rng.normal(size=p.shape), jnp.float32), PARAMS
        )
        one, first = apart.update(gradients, states[0], PARAMS)
        other, second = together.update(gradients, states[1], PARAMS)
        states = first, second
        assert_trees_equal(one, other)
