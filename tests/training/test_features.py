"""A phase trains on the features of frozen layers as it would on the images."""

import logging

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import vgg16
from mnist_jax import experiment, models
from mnist_jax.config import Model
from mnist_jax.data import DIGITS
from mnist_jax.runs import weights
from mnist_jax.runs.folder import RunFolder
from mnist_jax.training import features, state, step
from tests.conftest import assert_trees_equal, make_small_config
from tests.support.drawing import draw_weights
from tests.support.small_published import Normed
from tests.support.small_vgg import Narrow
from tests.support.training_parts import make_phase

pytestmark = pytest.mark.usefixtures("little_optimized")
NARROW = models.Model("small", Narrow(num_classes=10), DIGITS)


def make_config():
    """Two phases, the first with a frozen body."""
    config, report = make_small_config(), vgg16.get_config()
    for phase, epochs in zip(report.phases, (3, 1), strict=True):
        phase.update(epochs=epochs, batch_size=16)
        phase.optimizer.learning_rate = 1e-3
    config.phases = report.phases
    config.model.name = "vgg16"
    return config


@pytest.fixture
def config(small_config, monkeypatch, without_pictures):
    """The same, with the images of `small`."""
    monkeypatch.setitem(models.MODELS, "vgg16", Narrow)
    return make_config()


def params_of(folder):
    return weights.read(RunFolder(folder).weights)[0]


def test_the_training_is_the_same(config, tmp_path):
    reused = experiment.run(experiment.parse(config), tmp_path / "reused")
    config.phases[0].reuse_features = "never"
    plain = experiment.run(experiment.parse(config), tmp_path / "plain")
    assert reused["test"]["last"]["confusion"] == plain["test"]["last"]["confusion"]
    assert reused["best_epoch"] == plain["best_epoch"]
    first, second = params_of(tmp_path / "reused"), params_of(tmp_path / "plain")
    for name, value in first.items():
        np.testing.assert_allclose(value, second[name], rtol=0, atol=2e-5)


@pytest.mark.parametrize(
    ("changes", "reused", "logged"),
    [
        ({}, True, "are computed once, for all epochs of phase head."),
        ({"phases": "never"}, False, ""),
        ({"augment": 10.0}, False, ""),
        # 64 and 30 images of 8x8x16 numbers take 0.385 MB.
        ({"megabytes": 0.386}, True, "computed once"),
        ({"megabytes": 0.384}, False, "would take 0 MB, and --config.features_megab"),
        ({"seeds": (0, 1)}, False, "they differ from seed to seed"),
        ({"seeds": (0, 0)}, True, "computed once"),
    ],
)
def test_features_are_reused_if_they_are_the_same_in_every_epoch_and_fit(
    changes, reused, logged, config, small, caplog
):
    if "phases" in changes:
        config.phases[0].reuse_features = changes["phases"]
    config.augment.rotation = changes.get("augment", 0.0)
    config.features_megabytes = changes.get("megabytes", 1000.0)
    parsed = experiment.parse(config)
    model, (phase, _) = experiment.check(parsed)
    seeds = changes.get("seeds", (0,))
    states = [state.create(*draw_weights(model, seed), phase) for seed in seeds]
    caplog.set_level(logging.INFO)
    apply_fn, train, val = features.inputs_of_phase(parsed, model, phase, small, states)
    shape = (8, 8, 16) if reused else (28, 28, 1)
    assert (train.images.shape, val.images.shape) == ((64, *shape), (30, *shape))
    assert logged in caplog.text
    program = jax.make_jaxpr(
        lambda params: apply_fn(
            params, {}, step.to_input(train.images), train=True, key=jax.random.key(0)
        )[0]
    )(states[0].params)
    assert ("conv_general_dilated" in str(program)) == (not reused)


@pytest.mark.parametrize(
    ("name", "freeze", "expected"),
    [
        ("vgg16", (), 0),
        ("vgg16", ("block",), 5),
        ("vgg16", ("block[12]_",), 2),
        ("vgg16", ("block2_",), 0),
        ("vgg16", ("block1_conv1",), 0),
        ("vgg16", ("block1", "block3"), 1),
        ("vgg16", (".*/kernel",), 0),
        ("lenet5", ("conv",), 0),  # a single stage
        ("tests.support.own_nets:TwoOutputs", ("block1",), 0),
    ],
)
def test_only_whole_stages_from_the_first_on_count(name, freeze, expected):
    model = models.create(Model(name), DIGITS)
    phase = make_phase(freeze=freeze)
    assert features.frozen_stages(model, phase, model.shapes[0]) == expected


@pytest.mark.parametrize("stop", [1, 2])
@pytest.mark.parametrize("batch_size", [3, 7, 100])
def test_they_are_the_network_s_own_for_any_number_of_images(batch_size, stop):
    images = np.random.default_rng(0).integers(0, 256, (7, 28, 28, 1), np.uint8)
    params, stats = draw_weights(NARROW)
    batch = step.Batch(jnp.asarray(images), jnp.arange(7))
    found = features.compute(NARROW, stop, (params, stats), batch, batch_size)
    expected = NARROW.run_until(stop, params, stats, step.to_input(batch.images))
    # Relative to the largest: in sums that nearly cancel, rounding remains.
    tolerance = 1e-6 * np.abs(expected).max()
    np.testing.assert_allclose(found.images, expected, rtol=0, atol=tolerance)
    np.testing.assert_array_equal(found.labels, batch.labels)


def test_a_frozen_body_with_batchnorm_gives_the_same_gradients():
    model = models.Model("normed", Normed(num_classes=10), DIGITS)
    phase = make_phase(freeze=("(?!dense1/|logits/)",))
    params, stats = draw_weights(model)
    stats = jax.tree.map(lambda x: x + 0.5, stats)
    stop = features.frozen_stages(model, phase, params)
    assert stop == 2
    images = np.random.default_rng(0).integers(0, 256, (6, 28, 28, 1), np.uint8)
    batch = step.Batch(jnp.asarray(images), jnp.arange(6))
    reused = features.compute(model, stop, (params, stats), batch, 6)
    frozen = phase.groups.frozen_layers(params)

    def loss(params, images, **start):
        (logits, _), after = model.apply(
            params,
            stats,
            images,
            train=True,
            key=jax.random.key(0),
            frozen=frozen,
            **start,
        )
        return (logits**2).sum(), after

    gradient = jax.grad(loss, has_aux=True)
    (plain, after), (found, also_after) = jax.jit(
        lambda params, images, reused: (
            gradient(params, images),
            gradient(params, reused, start=stop),
        )
    )(params, step.to_input(batch.images), reused.images)
    assert_trees_equal((after, also_after), (stats, stats))
    for layer in model.stages[-1]:
        for variable, expected in plain[layer].items():
            tolerance = 1e-5 * np.abs(expected).max()
            np.testing.assert_allclose(
                found[layer][variable], expected, rtol=0, atol=tolerance
            )
