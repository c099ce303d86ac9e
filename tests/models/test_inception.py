"""The auxiliary logits of Inception: when there are any, and their loss."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mnist_jax import models, tree
from mnist_jax.config import Model
from mnist_jax.data import DIGITS
from mnist_jax.models import Outputs, cross_entropy


def create(**options):
    return models.create(Model("inception", options=options), DIGITS)


@pytest.mark.parametrize("auxiliary", [0.3, 0.0])
def test_auxiliary_logits_are_of_training_and_may_be_left_out(auxiliary):
    model = create(auxiliary=auxiliary)
    params, batch_stats = model.shapes
    layers = tree.layers(params)
    assert any(x.startswith("auxiliary") for x in layers) == bool(auxiliary)
    images = jax.ShapeDtypeStruct((5, 28, 28, 1), np.float32)
    for train in (True, False):
        apply = functools.partial(model.apply, train=train, key=jax.random.key(0))
        outputs, after = jax.eval_shape(apply, params, batch_stats, images)
        expected = {"auxiliary_logits": (5, 10)} if train and auxiliary else {}
        assert {name: x.shape for name, x in outputs.extra.items()} == expected
        assert jax.tree.structure(after) == jax.tree.structure(batch_stats)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_the_loss_has_a_share_of_the_auxiliary_cross_entropy(smoothing):
    rng = np.random.default_rng(0)
    logits, other = jnp.asarray(rng.standard_normal((2, 5, 10), np.float32))
    labels, images = jnp.asarray(rng.integers(0, 10, 5)), jnp.zeros((5, 28, 28, 1))
    share = functools.partial(cross_entropy, labels=labels, smoothing=smoothing)
    loss = functools.partial(
        create(auxiliary=0.25).loss, images=images, labels=labels, smoothing=smoothing
    )
    np.testing.assert_array_equal(loss(Outputs(logits)), share(logits))
    both = loss(Outputs(logits, {"auxiliary_logits": other}))
    np.testing.assert_allclose(both, share(logits) + 0.25 * share(other), rtol=1e-6)
