"""Every registered network: parameter counts, shapes, initializers, dropout."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mnist_jax import models, tree
from mnist_jax.config import Model
from mnist_jax.data import DIGITS
from mnist_jax.models import Outputs, cross_entropy
from mnist_jax.models.layers import Dropout
from tests.conftest import assert_trees_equal
from tests.support.drawing import draw_weights
from tests.support.networks import EACH, SMALL

pytestmark = pytest.mark.usefixtures("little_optimized")

# Most are the report's. (trainable, BatchNorm statistics)
PARAMETERS = {
    "alexnet": (1_138_058, 0),
    "capsnet": (1_280_720, 0),
    "densenet": (239_466 - 5_216, 5_216),
    "double_cnn": (887_530, 0),
    "efficient_capsnet": (737_392 - 576, 576),
    "fast_cnn": (26_914, 208),
    "inception": (410_180 - 2_376, 2_376),
    "lenet5": (61_706, 0),
    "resnet": (678_826 - 1_728, 1_728),
    "triple_cnn": (1_029_418 - 2_112, 2_112),
    "vgg16": (14_982_474, 0),
    "xception": (298_538 - 4_160, 4_160),
}
# Input shapes and rates of the dropout layers, as in the report.
DROPOUT = {
    "alexnet": [((1536,), 0.5), ((384,), 0.5)],
    "double_cnn": [((14, 14, 32), 0.25), ((7, 7, 64), 0.25), ((256,), 0.5)],
    "inception": [((128,), 0.5), ((272,), 0.4)],
    "triple_cnn": [
        ((14, 14, 32), 0.25),
        ((7, 7, 64), 0.25),
        ((3, 3, 128), 0.25),
        ((512,), 0.5),
        ((256,), 0.4),
        ((64,), 0.3),
    ],
    "vgg16": [((512,), 0.5)],
    "xception": [((256,), 0.3)],
}

# Their kernels are drawn from He's normal distribution, others from Glorot's uniform.
HE_NORMAL = ("alexnet", "densenet", "inception", "resnet", "xception")
# Their first dropout is that of auxiliary logits, which are computed in training only.
AUXILIARY = ("inception",)
# Their last layer is no dense one; see test_capsnet.py.
CAPSULES = {"capsnet", "efficient_capsnet"}

every_model = pytest.mark.parametrize("name", EACH)
every_plain_model = pytest.mark.parametrize(
    "name", [each for each in EACH if each.values[0] not in CAPSULES]
)


def create(name: str, **options: object) -> models.Model:
    return models.create(Model(name, options=options), DIGITS)


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
    """Logits of four images, the statistics after them, and features."""
    model, params, batch_stats = initial(name)
    (logits, _), after = evaluate(name)(params, batch_stats, IMAGES)
    return logits, after, jax.jit(model.features)(params, batch_stats, IMAGES)


@pytest.mark.parametrize("name", SMALL)
def test_parameter_counts(name):
    params, batch_stats = create(name).shapes
    counted = tree.count_parameters(params), tree.count_parameters(batch_stats)
    assert counted == PARAMETERS[name]
    # Two of a BatchNorm's four numbers for each channel are statistics.
    for layer, statistics in tree.layers(batch_stats).items():
        parameters = tree.layers(params)[layer]
        assert tree.count_parameters(statistics) == tree.count_parameters(parameters)


@every_plain_model
def test_features_are_the_input_of_the_last_layer(name):
    _, params, batch_stats = initial(name)
    logits, after, features = judged(name)
    assert (logits.shape, logits.dtype) == ((4, 10), jnp.float32)
    last = params["logits"]
    by_hand = features @ last["kernel"] + last["bias"][None]
    np.testing.assert_allclose(logits, by_hand, atol=1e-5)
    # Evaluation leaves BatchNorm's statistics as they are.
    assert_trees_equal(after, batch_stats)


@every_plain_model
def test_kernels_start_as_in_keras_and_biases_zero(name):
    """Glorot uniform: U(-limit, limit), limit = sqrt(6 / (fan_in + fan_out)).

    He normal: of variance 2 / fan_in, truncated at two standard deviations, of which
    truncation leaves 0.8796. BatchNorm starts as the identity.
    """
    _, params, batch_stats = initial(name)
    statistics = tree.layers(batch_stats)
    for layer, variables in tree.layers(params).items():
        assert not np.any(variables.get("bias", 0)), layer
        if layer in statistics:
            everything = variables | statistics[layer]
            for variable, start in {"scale": 1, "mean": 0, "var": 1}.items():
                assert np.all(everything[variable] == start), (layer, variable)
            continue
        kernel = np.asarray(variables["kernel"])
        if name in HE_NORMAL:
            std = np.sqrt(2 / np.prod(kernel.shape[:-1]))
            limit = 2 * std / 0.8796
        else:
            receptive_field = int(np.prod(kernel.shape[:-2]))
            fans = receptive_field * (kernel.shape[-2] + kernel.shape[-1])
            limit = np.sqrt(6 / fans)
            std = limit / np.sqrt(3)
        assert np.abs(kernel).max() <= np.float32(limit * (1 + 1e-5)), layer
        # The largest of n uniform draws is below 0.9 of the limit once in 0.9^-n.
        assert np.abs(kernel).max() > 0.9 * limit, layer
        np.testing.assert_allclose(kernel.std(), std, rtol=0.1, err_msg=layer)


@every_model
def test_each_image_is_judged_alone_in_evaluation(name):
    _, params, batch_stats = initial(name)
    together, _, _ = judged(name)
    alone = []
    for place in range(4):
        among_empty = jnp.zeros_like(IMAGES).at[place].set(IMAGES[place])
        (logits, _), _ = evaluate(name)(params, batch_stats, among_empty)
        alone.append(logits[place])
    # The logits of deep ReLU networks differ little before training.
    apart = np.abs(together[1:] - together[:-1]).max()
    assert apart > (1e-5 if name.startswith("vgg") else 1e-3)
    np.testing.assert_allclose(
        together, np.stack(alone), rtol=0, atol=min(1e-5, apart / 20)
    )


@every_model
@pytest.mark.parametrize("train", [True, False])
def test_dropout_is_where_the_report_has_it(name, train):
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
    expected = DROPOUT.get(name, [])
    if name in AUXILIARY and not train:
        expected = expected[1:]
    assert met == [(*each, train) for each in expected]


@every_model
def test_training_draws_by_its_key_where_there_is_dropout(name):
    model, params, batch_stats = initial(name)
    apply = jax.jit(functools.partial(model.apply, train=True))

    def logits(seed):
        return apply(params, batch_stats, IMAGES, key=jax.random.key(seed))[0].logits

    assert_trees_equal(logits(0), logits(0))
    assert np.array_equal(logits(0), logits(1)) == (name not in DROPOUT)


@pytest.mark.parametrize("name", ["efficient_capsnet", "fast_cnn", "lenet5"])
def test_the_summary_has_every_layer_and_the_total(name):
    model = create(name)
    summary = model.summary()
    for layer in tree.layers(model.shapes[0]):
        assert layer.split("/")[0] in summary
    assert f"{sum(PARAMETERS[name]):,}" in summary


# -- the auxiliary logits of Inception


@pytest.mark.parametrize("auxiliary", [0.3, 0.0])
def test_auxiliary_logits_are_of_training_and_may_be_left_out(auxiliary):
    model = create("inception", auxiliary=auxiliary)
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
    loss_fn = create("inception", auxiliary=0.25).loss
    given = {"images": images, "labels": labels, "smoothing": smoothing}
    loss = functools.partial(loss_fn, **given)
    np.testing.assert_array_equal(loss(Outputs(logits)), share(logits))
    both = loss(Outputs(logits, {"auxiliary_logits": other}))
    np.testing.assert_allclose(both, share(logits) + 0.25 * share(other), rtol=1e-6)
