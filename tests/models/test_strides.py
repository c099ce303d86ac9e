"""Strides, groups and padded pools: equal to Keras's layers, values and gradients."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mnist_jax.models import layers, operations
from tests.models.keras_models import keras, like_keras
from tests.models.test_forms import FORMS, draw

pytestmark = pytest.mark.usefixtures("little_optimized")

every_form = pytest.mark.parametrize("form", ["plain", *FORMS])
paddings = pytest.mark.parametrize("padding", ["VALID", "SAME"])


def value_and_gradients(function, *args):
    @jax.jit
    def run(*args):
        result, backward = jax.vjp(function, *args)
        return result, *backward(draw(9, result.shape))

    return run(*args)


def assert_equal(ours, theirs):
    for a, b in zip(ours, theirs, strict=True):
        assert a.shape == b.shape
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)


@every_form
@paddings
@pytest.mark.parametrize(
    ("channels", "features", "size", "strides", "groups"),
    [
        (3, 4, 3, (2, 2), 1),
        (1, 6, 5, (2, 1), 1),
        (4, 8, 3, (1, 1), 2),
        (6, 6, 3, (2, 2), 6),  # depthwise
        (5, 7, 1, (2, 2), 1),  # the shortcut of a residual block
        (3, 4, 3, (1, 1), 1),
        (2, 3, 7, (3, 2), 1),
        (3, 6, 3, (1, 1), 3),  # two features of each channel
    ],
)
def test_convolutions_are_keras_s(
    channels, features, size, strides, groups, padding, form
):
    images = draw(0, (2, 9, 8, channels))
    ours = layers.Conv(
        features, (size, size), strides=strides, padding=padding, groups=groups
    )
    params = ours.init(jax.random.key(0), images)["params"]
    params["bias"] = draw(1, (features,))
    with operations.form(form):
        found = value_and_gradients(
            lambda x, kernel, bias: ours.apply(
                {"params": {"kernel": kernel, "bias": bias}}, x
            ),
            images,
            params["kernel"],
            params["bias"],
        )
    with like_keras():
        theirs = keras.layers.Conv2D(
            features, size, strides=strides, padding=padding.lower(), groups=groups
        )
        theirs.build(images.shape)
        expected = value_and_gradients(
            lambda x, *variables: theirs.stateless_call(list(variables), [], x)[0],
            images,
            params["kernel"],
            params["bias"],
        )
    assert_equal(found, expected)


@every_form
@paddings
@pytest.mark.parametrize("kind", ["max", "average"])
@pytest.mark.parametrize(
    ("window", "strides"), [(2, None), (3, 2), (3, 1), (2, 3), (3, None)]
)
def test_pools_are_keras_s(kind, window, strides, padding, form):
    images = draw(0, (2, 9, 8, 3))
    pool = {"max": layers.max_pool, "average": layers.average_pool}[kind]
    with operations.form(form):
        found = value_and_gradients(
            functools.partial(pool, window=window, strides=strides, padding=padding),
            images,
        )
    layer = {
        "max": keras.layers.MaxPooling2D,
        "average": keras.layers.AveragePooling2D,
    }[kind]
    with like_keras():
        theirs = layer(window, strides, padding.lower())
        expected = value_and_gradients(lambda x: jnp.asarray(theirs(x)), images)
    assert_equal(found, expected)
