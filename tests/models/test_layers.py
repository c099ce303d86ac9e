"""What networks are made of: BatchNorm against Flax's, and dropout."""

import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.extend.random import threefry_2x32
from scipy import stats

from mnist_jax.devices import shards
from mnist_jax.models import layers, operations
from tests.models.test_forms import FORMS

pytestmark = pytest.mark.usefixtures("little_optimized")


def draw(seed, shape):
    return jnp.asarray(np.random.default_rng(seed).standard_normal(shape), jnp.float32)


# -- BatchNorm


@pytest.mark.parametrize(
    ("shape", "use_scale"), [((16, 5, 4, 8), True), ((16, 8), True), ((16, 8), False)]
)
@pytest.mark.parametrize("running", [False, True])
@pytest.mark.parametrize("form", FORMS)
def test_batchnorm_is_flax_s(shape, use_scale, running, form):
    """Values, gradients and statistics, which test_keras.py holds against Keras."""
    options = {"momentum": 0.99, "epsilon": 1e-3, "use_scale": use_scale}
    theirs = nn.BatchNorm(use_running_average=running, **options)
    scale = {"scale": 1 + 0.2 * draw(1, (8,))} if use_scale else {}
    variables = {
        "params": scale | {"bias": draw(2, (8,))},
        "batch_stats": {"mean": draw(3, (8,)), "var": 1 + 0.2 * draw(4, (8,))},
    }

    def run(apply, **call):
        def loss(params, x):
            stats = variables["batch_stats"]
            y, updates = apply(
                {"params": params, "batch_stats": stats},
                x,
                mutable=["batch_stats"],
                **call,
            )
            return (y * draw(5, shape)).sum(), (y, updates)

        gradients = jax.jit(jax.grad(loss, argnums=(0, 1), has_aux=True))
        return gradients(variables["params"], 3 + 2 * draw(0, shape))

    with operations.form(form):
        ours = run(layers.BatchNorm(**options).apply, use_running_average=running)
    expected = run(theirs.apply)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=0, atol=2e-4), ours, expected
    )


def test_the_first_look_at_a_network_leaves_its_statistics(ones):
    variables = layers.BatchNorm().init(
        jax.random.key(0), 3 * ones, use_running_average=False
    )
    np.testing.assert_array_equal(variables["batch_stats"]["mean"], np.zeros(128))


# -- dropout

# Whole 256ths, and rates that are none.
EXACT, OTHER = (0.25, 0.5, 1 / 256, 0.625, 255 / 256), (0.1, 0.3, 0.4, 0.999)
rates = pytest.mark.parametrize("rate", [*EXACT, *OTHER])


@pytest.fixture(scope="module")
def ones():
    return jnp.ones((128, 64, 128))


@functools.partial(jax.jit, static_argnums=0, static_argnames="train")
def drop(rate, x, *, train=True) -> Any:
    rngs = {"dropout": jax.random.key(0)}
    return layers.Dropout(rate).apply({}, x, train=train, rngs=rngs)


@rates
def test_dropout_keeps_its_share_and_scales_it_up(rate, ones):
    dropped = np.asarray(drop(rate, 3 * ones))
    kept = dropped != 0
    # A right implementation fails for one seed of a million.
    assert stats.binomtest(int(kept.sum()), kept.size, 1 - rate).pvalue > 1e-6
    np.testing.assert_allclose(dropped[kept], 3 / (1 - rate), rtol=1e-6)


@rates
def test_shards_drop_what_the_whole_batch_drops(rate):
    x = draw(0, (12, 5, 6))
    run = functools.partial(drop, rate)
    shards_of = jax.jit(jax.vmap(run, axis_name=shards.AXIS))
    parts = shards_of(x.reshape(4, 3, 5, 6))
    np.testing.assert_array_equal(parts.reshape(x.shape), run(x))


@rates
def test_dropout_is_the_identity_in_evaluation(rate):
    """Without a key, too."""
    x = draw(0, (4, 5))
    np.testing.assert_array_equal(drop(rate, x, train=False), x)
    np.testing.assert_array_equal(
        layers.Dropout(rate).apply({}, x, train=False),  # type: ignore[arg-type]
        x,
    )
    np.testing.assert_array_equal(drop(0.0, x), x)


@pytest.mark.parametrize("shape", [(), (7,), (3, 5, 6), (2, 3, 4, 8)])
def test_words_are_jax_s_threefry_of_their_places(shape):
    key = jax.random.key(3)
    drawn = jax.jit(layers._draw_words, static_argnums=1)(key, shape)
    places = np.arange(drawn.size, dtype=np.uint32)
    count = np.concatenate([np.zeros_like(places), places])
    first, second = np.split(threefry_2x32(jax.random.bits(key, (2,)), count), 2)
    np.testing.assert_array_equal(drawn.ravel(), first ^ second)


@pytest.mark.parametrize("number", [1, 64, 128, 192, 255])
@pytest.mark.parametrize("last", [256, 255])
def test_a_share_of_256ths_is_exact(number, last, monkeypatch):
    """Of the 256 bytes that can be drawn, so many are kept; and all are used."""
    every = jnp.arange(256, dtype=jnp.uint8).view(jnp.uint32)
    monkeypatch.setattr(layers, "_draw_words", lambda key, shape: every.reshape(shape))
    mask = layers.draw_mask(jax.random.key(0), number / 256, (last,))
    np.testing.assert_array_equal(mask, np.arange(last) < number)
