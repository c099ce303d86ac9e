"""Every registered model: parameter counts, shapes, initialisers, features."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict

from mnist_jax import models
from mnist_jax.errors import UserError

# Of the report. (trainable, BatchNorm statistics)
PARAMETERS = {
    "lenet5": (61_706, 0),
}
PARAMETERS_BY_LAYER = {
    "lenet5": {
        "conv1": 156,
        "conv2": 2_416,
        "dense1": 48_120,
        "dense2": 10_164,
        "logits": 850,
    },
}
FEATURES = {"lenet5": 84}

every_model = pytest.mark.parametrize("name", sorted(models.MODELS))


def create(name: str) -> models.Model:
    return models.create(ConfigDict({"name": name}))


def test_tables_cover_every_registered_model():
    for table in (PARAMETERS, PARAMETERS_BY_LAYER, FEATURES):
        assert table.keys() == models.MODELS.keys()


@every_model
def test_parameter_counts(name):
    params, batch_stats = jax.eval_shape(create(name).init, jax.random.key(0))
    counted = models.count_parameters(params), models.count_parameters(batch_stats)
    assert counted == PARAMETERS[name]
    by_layer = {layer: models.count_parameters(params[layer]) for layer in params}
    assert by_layer == PARAMETERS_BY_LAYER[name]


@every_model
def test_logits_and_features_have_the_documented_shapes(name):
    model = create(name)
    params, batch_stats = model.init(jax.random.key(0))
    images = jax.random.uniform(jax.random.key(1), (3, 28, 28, 1))
    logits, after = model.apply(params, batch_stats, images, train=False)
    assert (logits.shape, logits.dtype) == ((3, 10), jnp.float32)
    assert jax.tree.structure(after) == jax.tree.structure(batch_stats)
    features = model.features(params, batch_stats, images)
    assert features.shape == (3, FEATURES[name])


@every_model
def test_features_are_what_the_last_layer_sees(name):
    model = create(name)
    params, batch_stats = model.init(jax.random.key(0))
    images = jax.random.uniform(jax.random.key(1), (3, 28, 28, 1))
    logits, _ = model.apply(params, batch_stats, images, train=False)
    last = params["logits"]
    features = model.features(params, batch_stats, images)
    by_hand = features @ last["kernel"] + last["bias"][None]
    np.testing.assert_allclose(logits, by_hand, atol=1e-5)


@every_model
def test_kernels_start_glorot_uniform_and_biases_zero(name):
    """As in Keras: U(-limit, limit), limit = sqrt(6 / (fan_in + fan_out))."""
    params, _ = create(name).init(jax.random.key(3))
    for layer, variables in params.items():
        kernel = np.asarray(variables["kernel"])
        receptive_field = int(np.prod(kernel.shape[:-2]))
        fans = receptive_field * (kernel.shape[-2] + kernel.shape[-1])
        limit = np.sqrt(6 / fans)
        assert np.abs(kernel).max() <= limit, layer
        # A uniform draw's largest of n falls below 0.9 of the limit once in 0.9^-n.
        assert np.abs(kernel).max() > 0.9 * limit, layer
        np.testing.assert_allclose(kernel.std(), limit / np.sqrt(3), rtol=0.1)
        assert not np.any(variables["bias"]), layer


@every_model
def test_each_image_is_judged_alone_in_evaluation(name):
    model = create(name)
    params, batch_stats = model.init(jax.random.key(0))
    images = jax.random.uniform(jax.random.key(1), (4, 28, 28, 1))
    together, _ = model.apply(params, batch_stats, images, train=False)
    alone = [
        model.apply(params, batch_stats, images[i : i + 1], train=False)[0]
        for i in range(4)
    ]
    np.testing.assert_allclose(together, np.concatenate(alone), atol=1e-5)


@every_model
def test_summary_tells_every_layer_and_the_total(name):
    summary = create(name).summary()
    for layer in PARAMETERS_BY_LAYER[name]:
        assert layer in summary
    assert f"{sum(PARAMETERS[name]):,}" in summary


def test_lenet5_equals_its_definition_in_numpy():
    """Layer by layer as the report gives it, in plain loops over windows."""
    model = create("lenet5")
    params, batch_stats = model.init(jax.random.key(0))
    image = np.random.RandomState(0).uniform(size=(28, 28, 1)).astype(np.float32)
    logits, _ = model.apply(params, batch_stats, jnp.asarray(image)[None], train=False)

    def conv_tanh(x, variables):
        kernel = np.asarray(variables["kernel"], np.float64)
        size = kernel.shape[0]
        out = np.empty((x.shape[0] - size + 1, x.shape[1] - size + 1, kernel.shape[3]))
        for row, column in np.ndindex(*out.shape[:2]):
            window = x[row : row + size, column : column + size]
            out[row, column] = np.einsum("hwc,hwcd->d", window, kernel)
        return np.tanh(out + np.asarray(variables["bias"]))

    def halve(x):
        height, width, channels = x.shape
        return x.reshape(height // 2, 2, width // 2, 2, channels).mean(axis=(1, 3))

    def dense(x, variables):
        return x @ np.asarray(variables["kernel"]) + np.asarray(variables["bias"])

    x = np.pad(image.astype(np.float64), ((2, 2), (2, 2), (0, 0)))
    x = halve(conv_tanh(x, params["conv1"]))
    x = halve(conv_tanh(x, params["conv2"]))
    x = np.tanh(dense(x.reshape(-1), params["dense1"]))
    x = np.tanh(dense(x, params["dense2"]))
    np.testing.assert_allclose(logits[0], dense(x, params["logits"]), atol=1e-5)


def test_an_unknown_model_is_answered_with_the_known_ones():
    with pytest.raises(UserError, match="lenet6.*known: .*lenet5"):
        create("lenet6")
