"""Freezing: what is frozen stays to the bit, costs nothing, and is named exactly."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mnist_jax import models, tree
from mnist_jax.config import Model
from mnist_jax.data import DIGITS
from mnist_jax.errors import UserError
from mnist_jax.training import state, step
from mnist_jax.training.freezing import Freeze
from tests.conftest import assert_trees_equal
from tests.support.training_parts import EVERYTHING, TINY, make_phase, make_step
from tests.support.training_parts import make_state as make_state_of

KEY = jax.random.key(0)
PARAMS = {
    "block1_conv1": {"kernel": jnp.ones((2, 3)), "bias": jnp.ones(3)},
    "block1_norm": {"scale": jnp.ones(3), "bias": jnp.ones(3)},
    "block2_conv1": {"kernel": jnp.ones((3, 4)), "bias": jnp.ones(4)},
    "logits": {"kernel": jnp.ones((4, 2)), "bias": jnp.ones(2)},
}


def make_state(phase):
    return make_state_of(TINY, phase)


def make_batch():
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (12, 28, 28, 1), np.uint8)
    return step.Batch(jnp.asarray(images), jnp.asarray(rng.integers(0, 10, 12)))


def frozen_names(*patterns):
    mask = Freeze(patterns).mask(PARAMS)
    return {
        tree.name_of(path)
        for path, frozen in jax.tree_util.tree_leaves_with_path(mask)
        if frozen
    }


@pytest.mark.parametrize(
    ("patterns", "expected"),
    [
        ((), set()),
        (("logits/bias",), {"logits/bias"}),
        (("block1_conv1",), {"block1_conv1/kernel", "block1_conv1/bias"}),
        (("conv1",), set()),  # from the beginning of a name
        (
            (".*/kernel",),
            {"block1_conv1/kernel", "block2_conv1/kernel", "logits/kernel"},
        ),
        (
            ("block2_", "block1_norm/scale"),
            {"block2_conv1/kernel", "block2_conv1/bias", "block1_norm/scale"},
        ),
    ],
)
def test_expressions_match_from_the_beginning_of_names(patterns, expected):
    assert frozen_names(*patterns) == expected


def test_a_layer_counts_as_frozen_only_if_all_of_it_is():
    freeze = Freeze(("block1_norm/scale", "block2_conv1"))
    assert freeze.layers(PARAMS) == {"block2_conv1"}


def test_the_table_counts_what_is_trained_and_what_is_frozen():
    table = Freeze(("block1_", "logits/bias")).table(PARAMS)
    cells = {line.split()[0]: line.split()[1:] for line in table.splitlines()}
    assert cells == {
        "layer": ["trained", "frozen"],
        "block1_conv1": ["0", "9"],
        "block1_norm": ["0", "6"],
        "block2_conv1": ["16", "0"],
        "logits": ["8", "2"],
        "together": ["24", "17"],
    }


@pytest.mark.parametrize(
    ("patterns", "message"),
    [
        (("block[",), r"phases\[0\].freeze: 'block\[' is not a regular expression"),
        (("block3_",), r"'block3_' matches no parameter. .*block1_conv1.*logits"),
        (("block1_", "blok2"), "'blok2' matches no parameter"),
        ((".*",), "matches every parameter: there is nothing to train"),
        (("block", "logits"), "matches every parameter"),
    ],
)
def test_expressions_that_do_not_fit_are_refused(patterns, message):
    with pytest.raises(UserError, match=message):
        Freeze(patterns, flag="--config.phases[0].freeze").check(PARAMS)


def test_a_phase_hands_its_flag_on():
    with pytest.raises(UserError, match=r"phase.freeze: '\(' is not a regular"):
        make_phase(freeze=("(",))
    with pytest.raises(UserError, match="reuse_features=always"):
        make_phase(reuse_features="always")


CONV, PARTS, KERNELS = ("conv",), ("norm", "logits/bias"), (".*/kernel",)


@pytest.mark.parametrize(
    ("freeze", "optimizer"),
    [
        # Every optimizer, and every way to name; the mask does not know the optimizer.
        *((CONV, name) for name in ("adam", "adamw", "rmsprop", "sgd")),
        *((names, "adamw") for names in (PARTS, KERNELS)),
        *(
            pytest.param(names, name, marks=pytest.mark.exhaustive)
            for names in (PARTS, KERNELS)
            for name in ("adam", "rmsprop", "sgd")
        ),
    ],
)
def test_what_is_frozen_stays_to_the_bit_and_the_rest_moves(freeze, optimizer):
    fields = EVERYTHING | {"freeze": freeze, "optimizer.name": optimizer}
    fields |= {"optimizer.momentum": 0.9, "optimizer.weight_decay": 0.1}
    phase = make_phase(**fields)
    before = make_state(phase)
    train_step, after = jax.jit(make_step(TINY.apply, phase)), before
    for _ in range(3):
        after, _ = train_step(after, make_batch(), KEY)
    mask = phase.freeze.mask(before.params)
    assert 0 < sum(jax.tree.leaves(mask)) < len(jax.tree.leaves(mask))
    for (path, frozen), old, new in zip(
        jax.tree_util.tree_leaves_with_path(mask),
        jax.tree.leaves(before.params),
        jax.tree.leaves(after.params),
        strict=True,
    ):
        assert np.array_equal(old, new) == frozen, path


def test_what_is_frozen_has_no_moments():
    def count(phase):
        return tree.count_parameters(make_state(phase).opt_state)

    params = make_state(make_phase()).params
    everything = count(make_phase(**{"optimizer.name": "adam"}))
    some = count(make_phase(**{"optimizer.name": "adam", "freeze": ("conv",)}))
    assert everything - some == 2 * tree.count_parameters(params["conv"])


def test_the_others_go_where_they_would_if_the_frozen_ones_gave_no_gradient():
    """Gradient clipping, for one, must not count what is frozen."""
    fields = {"optimizer.name": "sgd", "optimizer.clip_norm": 0.05}
    phase = make_phase(**fields, freeze=("conv", "norm"))
    current, batch = make_state(phase), make_batch()
    after, _ = jax.jit(make_step(TINY.apply, phase))(current, batch, KEY)

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
    expected = jax.tree.map(
        lambda p, g: p - rate * g * 0.05 / norm, current.params["logits"], gradients
    )
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-7),
        after.params["logits"],
        expected,
    )


def test_a_frozen_batchnorm_is_as_in_evaluation():
    """As in Keras: its statistics stay, and it goes by them."""
    frozen = make_phase(freeze=("conv", "norm"))
    current, batch = make_state(frozen), make_batch()
    stats = jax.tree.map(lambda leaf: leaf + 0.5, current.batch_stats)
    current = current.replace(batch_stats=stats)
    after, metrics = jax.jit(make_step(TINY.apply, frozen))(current, batch, KEY)
    assert_trees_equal(after.batch_stats, stats)
    free = make_phase(freeze=("conv", "norm/scale"))
    other_state = make_state(free).replace(batch_stats=stats)
    moved, other = jax.jit(make_step(TINY.apply, free))(other_state, batch, KEY)
    assert not np.array_equal(
        jax.tree.leaves(moved.batch_stats)[0], jax.tree.leaves(stats)[0]
    )
    assert metrics.loss != other.loss


def test_a_frozen_batchnorm_equals_the_network_s_own_in_evaluation():
    current = make_state(make_phase())
    images = step.to_input(make_batch().images)
    stats = jax.tree.map(lambda leaf: leaf + 0.5, current.batch_stats)

    def no_dropout(run, args, kwargs, context):
        if type(context.module).__name__ == "Dropout":
            return args[0]
        return run(*args, **kwargs)

    with nn.intercept_methods(no_dropout):
        (train, _), _ = TINY.apply(
            current.params, stats, images, train=True, frozen=("norm",)
        )
    (evaluated, _), _ = TINY.apply(current.params, stats, images, train=False)
    np.testing.assert_allclose(train, evaluated, atol=1e-6)


def flops(freeze):
    """Of a compiled step of VGG16 on two images."""
    model = models.create(Model("vgg16"), DIGITS)
    phase = make_phase(freeze=freeze, batch_size=2)
    images = jnp.zeros((2, 28, 28, 1), jnp.uint8)
    batch = step.Batch(images, jnp.zeros(2, jnp.uint8))
    shapes = state.shapes(model, phase)
    train_step = step.make_train_step(
        apply_fn=model.apply,
        loss_fn=model.loss,
        optimizer=phase.optimizer,
        learning_rate_fn=lambda _: 1e-3,
        freeze=phase.freeze,
    )
    # Before XLA's own rewriting, which on some backends hides a convolution's FLOPs.
    analysis = jax.jit(train_step).lower(shapes, batch, KEY).cost_analysis()
    assert analysis is not None
    return analysis["flops"]


@pytest.mark.slow
def test_a_frozen_body_costs_no_backward_pass():
    """VGG16: of forward, gradient by kernels and gradient by inputs, one is left."""
    everything, head, two_blocks = flops(()), flops(("block",)), flops(("block[12]_",))
    assert everything / head == pytest.approx(3, rel=0.1)
    assert head < two_blocks < everything
