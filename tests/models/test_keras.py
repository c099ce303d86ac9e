"""Each network and the same in Keras: values, BatchNorm's statistics, gradients.

All weights are drawn at random, BatchNorm's parameters and statistics too: the initial
ones would hide that two of them are confused, or that momentum or epsilon is another.
"""

import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from mnist_jax import models, tree
from mnist_jax.config import Model
from mnist_jax.data import DIGITS
from mnist_jax.models.layers import Dropout
from tests.models.keras_models import (
    KERAS_MODELS,
    as_trees,
    like_keras,
    set_weights,
    values,
    zeros,
)

pytestmark = pytest.mark.usefixtures("little_optimized")

# They take more than a few seconds.
SLOW = ("densenet", "inception", "resnet", "triple_cnn", "vgg16", "xception")
# Their training takes far more, and their layers are those of other networks.
EXHAUSTIVE = ("densenet", "inception", "vgg16", "xception")


def every_model(*, exhaustive=()):
    """Parametrize a test by the networks that Keras has too."""
    names = sorted(models.MODELS.keys() & KERAS_MODELS)
    marks = {name: pytest.mark.slow for name in SLOW}
    marks |= {name: pytest.mark.exhaustive for name in exhaustive}
    return pytest.mark.parametrize(
        "name", [pytest.param(name, marks=marks.get(name, ())) for name in names]
    )


# Fewer in training make rounding visible: where a unit is almost never active, its
# variance is almost 0 and BatchNorm enlarges what is left of it. VGG has no BatchNorm.
BATCH, BATCH_OF_VGG = 64, 8
# Of two almost equal values in a window, rounding says which is the larger and gets the
# gradient; BatchNorm enlarges it where variances are small. Even the plain forms differ
# by 0.003 from Keras here. The gradient that once got lost made 0.46.
# In deep networks with BatchNorm, Keras's own change by 0.016 if images do by 1e-7.
GRADIENT_LIMIT = 1e-2
GRADIENT_LIMITS = {"densenet": 3e-2, "lenet5": 1e-4, "resnet": 3e-2}


# Weight of the auxiliary loss; in the paper too.
AUXILIARY = 0.3

# Kernels larger than they start, so that images differ; most where BatchNorm, whose
# statistics are drawn, takes the place of biases.
ENLARGED = {
    "densenet": 2.2,
    "fast_cnn": 3.0,
    "inception": 2.3,
    "resnet": 2.2,
    "xception": 3.3,
}


def draw_weights(model):
    """All at random."""
    params, batch_stats = model.shapes
    rng = np.random.default_rng(0)

    def draw(path, leaf):
        fans = np.prod(leaf.shape[:-2]) * np.sum(leaf.shape[-2:])
        glorot = np.sqrt(6 / fans)
        around, spread = {
            "kernel": (0.0, ENLARGED.get(model.name, 1.5) * glorot),
            "bias": (0.0, 0.1),
            "scale": (1.0, 0.2),
            "mean": (0.2, 0.1),
            "var": (1.0, 0.3),
        }[path[-1].key]
        return jnp.asarray(rng.uniform(-1, 1, leaf.shape) * spread + around, leaf.dtype)

    draw_tree = functools.partial(jax.tree_util.tree_map_with_path, draw)
    return draw_tree(params), draw_tree(batch_stats)


def draw_batch(name):
    """Digits have an even background, so that windows of a pool have ties."""
    rng = np.random.default_rng(1)
    batch = BATCH_OF_VGG if name.startswith("vgg") else BATCH
    blots = rng.uniform(0, 1, (batch, 7, 7, 1)).repeat(4, axis=1).repeat(4, axis=2)
    images = (blots * rng.uniform(0.5, 1, blots.shape)).astype(np.float32)
    images[:, :6] = 0
    images[:, :, 22:] = 0
    return jnp.asarray(images), jnp.asarray(rng.integers(0, 10, batch))


@functools.cache
def pair(name):
    """Our model, its weights, and the Keras model with the same."""
    model = models.create(Model(name), DIGITS)
    with like_keras(), zeros():
        keras_model = KERAS_MODELS[name]()
    weights = draw_weights(model)
    set_weights(keras_model, *weights)
    return model, *weights, keras_model


def without_dropout(run, args, kwargs, context):
    """For `nn.intercept_methods`: what goes into a Dropout comes out of it."""
    return args[0] if isinstance(context.module, Dropout) else run(*args, **kwargs)


def assert_close(ours, theirs, tolerance, what):
    """Equal to within a share of the largest number of the array."""
    assert jax.tree.structure(ours) == jax.tree.structure(theirs)
    for (path, a), b in zip(
        jax.tree_util.tree_leaves_with_path(ours), jax.tree.leaves(theirs), strict=True
    ):
        a, b = np.asarray(a), np.asarray(b)
        assert a.shape == b.shape
        error = np.abs(a - b).max() / max(np.abs(b).max(), 1e-3)
        assert error < tolerance, (what, jax.tree_util.keystr(path), error)


@every_model()
def test_evaluation_equals_keras(name):
    model, params, batch_stats, keras_model = pair(name)
    images, _ = draw_batch(name)
    (ours, _), after = jax.jit(lambda p, b: model.apply(p, b, images, train=False))(
        params, batch_stats
    )
    with like_keras():
        theirs, _ = jax.jit(
            lambda *v: keras_model.stateless_call(*v, images, training=False)
        )(*values(keras_model))
    if isinstance(theirs, list):  # auxiliary logits, which we compute in training only
        theirs = theirs[0]
    assert tree.count_parameters(params, batch_stats) == keras_model.count_params()
    # That the weights which were drawn make a difference worth comparing.
    assert np.std(ours, axis=0).min() > 100 * 1e-5
    np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-5)
    jax.tree.map(np.testing.assert_array_equal, after, batch_stats)


@every_model(exhaustive=EXHAUSTIVE)
def test_training_equals_keras_but_for_dropout(name):
    """Logits, auxiliary ones too, BatchNorm's new statistics, the loss's gradient."""
    model, params, batch_stats, keras_model = pair(name)
    images, labels = draw_batch(name)

    def our_loss(params):
        outputs, after = model.apply(params, batch_stats, images, train=True)
        loss = model.loss(outputs, images, labels).mean()
        return loss, ([outputs.logits, *outputs.extra.values()], after)

    def their_loss(trainable, rest):
        called: Any = keras_model.stateless_call(trainable, rest, images, training=True)
        outputs, rest = called
        outputs = outputs if isinstance(outputs, list) else [outputs]
        loss = sum(
            weight
            * optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()
            for weight, logits in zip((1, AUXILIARY), outputs, strict=False)
        )
        return loss, (outputs, rest)

    with nn.intercept_methods(without_dropout):
        gradients, (logits, after) = jax.jit(jax.grad(our_loss, has_aux=True))(params)
    with like_keras():
        their_gradients, (their_logits, their_rest) = jax.jit(
            jax.grad(their_loss, has_aux=True)
        )(*values(keras_model))
    assert_close(logits, their_logits, 2e-5, "logits")
    _, their_after = as_trees(keras_model.non_trainable_variables, their_rest)
    assert_close(after, their_after, 1e-5, "statistics")
    their_gradients, _ = as_trees(keras_model.trainable_variables, their_gradients)
    limit = GRADIENT_LIMITS.get(name, GRADIENT_LIMIT)
    assert_close(gradients, their_gradients, limit, "gradients")
    # The statistics move, by a hundredth of the way: Keras's momentum of 0.99.
    for before, now in zip(
        jax.tree.leaves(batch_stats), jax.tree.leaves(after), strict=True
    ):
        assert 1e-4 < np.abs(before - now).max() < 0.5
