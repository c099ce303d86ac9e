"""Every registered model: parameter counts, shapes, initialisers, features, dropout."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mnist_jax import models, tree
from mnist_jax.config import Model
from mnist_jax.data import DIGITS
from mnist_jax.errors import UserError
from mnist_jax.models.layers import Dropout
from mnist_jax.models.vgg import VGG16
from tests.conftest import assert_trees_equal
from tests.support.drawing import draw_weights

# Most are the report's. (trainable, BatchNorm statistics)
PARAMETERS = {
    "double_cnn": (887_530, 0),
    "fast_cnn": (26_914, 208),
    "lenet5": (61_706, 0),
    "triple_cnn": (1_029_418 - 2_112, 2_112),
    "vgg16": (14_982_474, 0),
    "vgg19": (20_292_170, 0),
}
# As the report counts, BatchNorm's statistics with its parameters.
PARAMETERS_BY_LAYER = {
    "double_cnn": {
        "block1_conv1": 832,
        "block1_conv2": 25_632,
        "block2_conv1": 18_496,
        "block2_conv2": 36_928,
        "dense1": 803_072,
        "logits": 2_570,
    },
    "fast_cnn": {
        "conv1": 200,
        "norm1": 32,
        "conv2": 2_304,
        "norm2": 128,
        "conv3": 18_432,
        "norm3": 256,
        "logits": 5_770,
    },
    "lenet5": {
        "conv1": 156,
        "conv2": 2_416,
        "dense1": 48_120,
        "dense2": 10_164,
        "logits": 850,
    },
    "triple_cnn": {
        "block1_conv1": 320,
        "block1_conv2": 9_248,
        "block1_norm": 128,
        "block2_conv1": 18_496,
        "block2_conv2": 36_928,
        "block2_norm": 256,
        "block3_conv1": 73_856,
        "block3_conv2": 147_584,
        "block3_norm": 512,
        "dense1": 590_336,
        "dense1_norm": 2_048,
        "dense2": 131_328,
        "dense2_norm": 1_024,
        "dense3": 16_448,
        "dense3_norm": 256,
        "logits": 650,
    },
    "vgg16": {
        "block1_conv1": 1_792,
        "block1_conv2": 36_928,
        "block2_conv1": 73_856,
        "block2_conv2": 147_584,
        "block3_conv1": 295_168,
        "block3_conv2": 590_080,
        "block3_conv3": 590_080,
        "block4_conv1": 1_180_160,
        "block4_conv2": 2_359_808,
        "block4_conv3": 2_359_808,
        "block5_conv1": 2_359_808,
        "block5_conv2": 2_359_808,
        "block5_conv3": 2_359_808,
        "dense1": 262_656,
        "logits": 5_130,
    },
}
PARAMETERS_BY_LAYER["vgg19"] = PARAMETERS_BY_LAYER["vgg16"] | {
    "block3_conv4": 590_080,
    "block4_conv4": 2_359_808,
    "block5_conv4": 2_359_808,
}
FEATURES = {
    "double_cnn": 256,
    "fast_cnn": 576,
    "lenet5": 84,
    "triple_cnn": 64,
    "vgg16": 512,
    "vgg19": 512,
}

every_model = pytest.mark.parametrize("name", sorted(models.MODELS))
# VGG19 is VGG16 with three layers more: by shapes alone, and against Keras's.
every_model_but_vgg19 = pytest.mark.parametrize(
    "name", sorted(models.MODELS.keys() - {"vgg19"})
)


def create(name: str) -> models.Model:
    return models.create(Model(name), DIGITS)


@functools.cache
def initial(name: str):
    """The model, and the weights and statistics that it starts with."""
    model = create(name)
    return model, *draw_weights(model, 3)


IMAGES = jnp.asarray(
    np.random.default_rng(1).uniform(0, 1, (4, 28, 28, 1)), jnp.float32
)


@functools.cache
def evaluate(name: str):
    """The network in evaluation, compiled once."""
    return jax.jit(functools.partial(create(name).apply, train=False))


@functools.cache
def judged(name: str):
    """Of four images: logits, the statistics after them, and features."""
    model, params, batch_stats = initial(name)
    (logits, _), after = evaluate(name)(params, batch_stats, IMAGES)
    return logits, after, jax.jit(model.features)(params, batch_stats, IMAGES)


def test_tables_cover_every_registered_model():
    for table in (PARAMETERS, PARAMETERS_BY_LAYER, FEATURES):
        assert table.keys() == models.MODELS.keys()


@every_model
def test_parameter_counts(name):
    params, batch_stats = create(name).shapes
    counted = tree.count_parameters(params), tree.count_parameters(batch_stats)
    assert counted == PARAMETERS[name]
    assert tree.count_parameters(params, batch_stats) == sum(counted)
    by_layer = {
        layer: tree.count_parameters(params[layer], batch_stats.get(layer, {}))
        for layer in params
    }
    assert by_layer == PARAMETERS_BY_LAYER[name]
    # Of a BatchNorm's four numbers a channel, two are statistics.
    for layer, statistics in batch_stats.items():
        count = tree.count_parameters(statistics)
        assert 2 * count == PARAMETERS_BY_LAYER[name][layer]


@every_model_but_vgg19
def test_logits_and_features_have_the_documented_shapes(name):
    _, _, batch_stats = initial(name)
    logits, after, features = judged(name)
    assert (logits.shape, logits.dtype) == ((4, 10), jnp.float32)
    assert features.shape == (4, FEATURES[name])
    # Evaluation leaves BatchNorm's statistics as they are.
    assert_trees_equal(after, batch_stats)


@every_model_but_vgg19
def test_features_are_what_the_last_layer_sees(name):
    _, params, _ = initial(name)
    logits, _, features = judged(name)
    last = params["logits"]
    by_hand = features @ last["kernel"] + last["bias"][None]
    np.testing.assert_allclose(logits, by_hand, atol=1e-5)


@every_model_but_vgg19
def test_kernels_start_glorot_uniform_and_biases_zero(name):
    """As in Keras: U(-limit, limit), limit = sqrt(6 / (fan_in + fan_out))."""
    _, params, batch_stats = initial(name)
    for layer, variables in params.items():
        assert not np.any(variables.get("bias", 0)), layer
        if layer in batch_stats:
            continue
        kernel = np.asarray(variables["kernel"])
        receptive_field = int(np.prod(kernel.shape[:-2]))
        fans = receptive_field * (kernel.shape[-2] + kernel.shape[-1])
        limit = np.sqrt(6 / fans)
        assert np.abs(kernel).max() <= np.float32(limit), layer
        # A uniform draw's largest of n falls below 0.9 of the limit once in 0.9^-n.
        assert np.abs(kernel).max() > 0.9 * limit, layer
        np.testing.assert_allclose(kernel.std(), limit / np.sqrt(3), rtol=0.1)


class Narrow(VGG16):
    """As deep as VGG16."""

    channels = 16
    hidden = 128


def test_vgg_s_kernels_may_start_he_normal_and_then_signals_do_not_shrink():
    """As in Keras: truncated at two standard deviations, of variance 2 / fan_in."""
    sizes = {}
    for start in ("glorot_uniform", "he_normal"):
        model = models.Model("vgg16", Narrow(num_classes=10, kernel_init=start), DIGITS)
        params, _ = draw_weights(model, 3)
        features = jax.jit(model.run_until, static_argnums=0)(5, params, {}, IMAGES)
        sizes[start] = float(jnp.sqrt(jnp.mean(features**2)))
    for layer, variables in params.items():
        kernel = np.asarray(variables["kernel"])
        std = np.sqrt(2 / np.prod(kernel.shape[:-1]))
        np.testing.assert_allclose(kernel.std(), std, rtol=0.1, err_msg=layer)
        # Of what is cut, the spread is 0.8796 of the whole's, for which Keras corrects.
        assert 2.0 * std < np.abs(kernel).max() < 2 * std / 0.8796 + 1e-6, layer
        assert not np.any(variables["bias"]), layer
    assert 0.1 < sizes["he_normal"] < 10
    assert sizes["glorot_uniform"] < 0.1 * sizes["he_normal"]


@every_model_but_vgg19
def test_batchnorm_starts_as_the_identity(name):
    """As in Keras: scale 1, bias 0, mean 0, variance 1."""
    _, params, batch_stats = initial(name)
    assert bool(batch_stats) == (name in ("fast_cnn", "triple_cnn"))
    for layer, statistics in batch_stats.items():
        everything = params[layer] | statistics
        assert everything.keys() == {"scale", "bias", "mean", "var"}
        for variable, start in {"scale": 1, "bias": 0, "mean": 0, "var": 1}.items():
            assert np.all(everything[variable] == start), (layer, variable)


@every_model_but_vgg19
def test_each_image_is_judged_alone_in_evaluation(name):
    _, params, batch_stats = initial(name)
    together, _, _ = judged(name)
    alone = []
    for place in range(4):
        among_empty = jnp.zeros_like(IMAGES).at[place].set(IMAGES[place])
        (logits, _), _ = evaluate(name)(params, batch_stats, among_empty)
        alone.append(logits[place])
    # Deep ReLU networks hardly tell images apart with the weights that they start with.
    apart = np.abs(together[1:] - together[:-1]).max()
    assert apart > (1e-5 if name.startswith("vgg") else 1e-3)
    np.testing.assert_allclose(
        together, np.stack(alone), rtol=0, atol=min(1e-5, apart / 20)
    )


# Where dropout stands, and its rates: of the report.
DROPOUT = {
    "double_cnn": [((14, 14, 32), 0.25), ((7, 7, 64), 0.25), ((256,), 0.5)],
    "fast_cnn": [],
    "lenet5": [],
    "triple_cnn": [
        ((14, 14, 32), 0.25),
        ((7, 7, 64), 0.25),
        ((3, 3, 128), 0.25),
        ((512,), 0.5),
        ((256,), 0.4),
        ((64,), 0.3),
    ],
    "vgg16": [((512,), 0.5)],
    "vgg19": [((512,), 0.5)],
}


@every_model
@pytest.mark.parametrize("train", [True, False])
def test_dropout_stands_where_the_report_has_it(name, train):
    model, met = create(name), []
    params, batch_stats = model.shapes

    def note(run, args, kwargs, context):
        if isinstance(context.module, Dropout):
            met.append((args[0].shape[1:], context.module.rate, kwargs["train"]))
        return run(*args, **kwargs)

    with nn.intercept_methods(note):
        jax.eval_shape(
            functools.partial(model.apply, train=train, key=jax.random.key(0)),
            params,
            batch_stats,
            IMAGES,
        )
    assert met == [(*each, train) for each in DROPOUT[name]]


@every_model_but_vgg19
def test_training_draws_by_its_key_where_there_is_dropout(name):
    model, params, batch_stats = initial(name)
    apply = jax.jit(functools.partial(model.apply, train=True))

    def logits(seed):
        return apply(params, batch_stats, IMAGES, key=jax.random.key(seed))[0].logits

    assert_trees_equal(logits(0), logits(0))
    assert np.array_equal(logits(0), logits(1)) == (not DROPOUT[name])


@every_model
def test_summary_tells_every_layer_and_the_total(name):
    summary = create(name).summary()
    for layer in PARAMETERS_BY_LAYER[name]:
        assert layer in summary
    assert f"{sum(PARAMETERS[name]):,}" in summary


def test_lenet5_equals_its_definition_in_numpy():
    """Layer by layer as the report gives it, in plain loops over windows."""
    model, params, batch_stats = initial("lenet5")
    image = np.random.RandomState(0).uniform(size=(28, 28, 1)).astype(np.float32)
    (logits, _), _ = model.apply(
        params, batch_stats, jnp.asarray(image)[None], train=False
    )

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
