"""The report's three ways to reuse a network, end to end on a short schedule."""

import itertools

import numpy as np
import pytest

from configs import vgg16
from mnist_jax import experiment, models
from mnist_jax.data import DIGITS
from mnist_jax.errors import UserError
from mnist_jax.runs import weights as run_weights
from tests.support.runs import reported_weights
from tests.support.small_vgg import Narrow

pytestmark = pytest.mark.usefixtures("little_optimized")

WAYS = [
    "",
    "head_only",
    "first_blocks=1",
    "first_blocks=1,frozen",
    "first_blocks=2",
    "scratch",
]
TUNED = ["first_blocks=1,imagenet_input,tuned", "scratch,tuned"]  # augments by itself


@pytest.fixture
def weights(tmp_path, monkeypatch):
    """A file of a body of that network, and its arrays."""
    monkeypatch.setitem(models.MODELS, "vgg16", Narrow)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    rng = np.random.default_rng(0)
    arrays = {
        name: rng.normal(0, 0.1, shape).astype(np.float32)
        for name, shape in run_weights.shapes(
            models.Model("vgg16", Narrow(num_classes=10), DIGITS)
        ).items()
        if name.startswith("block")
    }
    path = tmp_path / "body.safetensors"
    run_weights.write(path, arrays, {run_weights.NETWORK: "vgg16"})
    return path, arrays


@pytest.mark.parametrize(
    "way",
    [*WAYS, TUNED[0], pytest.param(TUNED[1], marks=pytest.mark.exhaustive)],
)
def test_each_way_trains_what_it_says(
    way, weights, small_config, tmp_path, without_pictures
):
    path, arrays = weights
    config = vgg16.get_config(way)
    config.data = small_config.data
    config.eval_batch_size = 16
    for phase in config.phases:
        phase.update(epochs=1, batch_size=16)
        phase.optimizer.learning_rate = 1e-3
    from_scratch = way.startswith("scratch")
    if not from_scratch:
        config.model.pretrained = str(path)
    results = experiment.run(experiment.parse(config), tmp_path / "run")
    assert results["epochs"] == len(config.phases) == (1 if way else 2)
    params, _ = reported_weights(tmp_path / "run")
    frozen = {"head_only": ("block1", "block2"), "first_blocks=1,frozen": ("block1",)}
    for name, array in arrays.items():
        layer, variable = name.split("/")
        equal = np.array_equal(params[layer][variable], array)
        # The best epoch of two may be the first one's, in which the body is frozen.
        if way or results["best_epoch"] == 2:
            assert equal == name.startswith(frozen.get(way, ("nothing",))), name
        # A step of Adam is no more than the learning rate: loaded weights stay near.
        taken = "block1" if way.startswith("first_blocks=1") else "block"
        if not from_scratch and name.startswith(taken):
            assert np.abs(params[layer][variable] - array).max() < 0.05


@pytest.mark.parametrize(
    "variants",
    [
        ("first_blocks=2", "tuned"),
        ("first_blocks=2", "frozen"),
        ("tuned", "augment"),
        ("first_blocks=2", "frozen", "tuned", "augment", "imagenet_input"),
    ],
)
def test_variants_may_be_named_in_any_order(variants):
    expected = vgg16.get_config(",".join(variants))
    assert expected.name == "-".join(("vgg16", *variants))
    for order in itertools.permutations(variants):
        assert vgg16.get_config(",".join(order)) == expected


@pytest.mark.parametrize(
    "variant",
    ["scratch,frozen", "head_only,scratch", "first_blocks=1,first_blocks=2"],
)
def test_variants_that_exclude_each_other_are_refused(variant):
    with pytest.raises(UserError, match=f"{variant.replace(',', ' and ')} exclude"):
        vgg16.get_config(variant)


@pytest.mark.slow
@pytest.mark.exhaustive
def test_the_real_first_blocks_train_with_the_rest(
    real_blocks, small_config, tmp_path, without_pictures
):
    """The whole of VGG16, on two of its steps."""
    config = vgg16.get_config("first_blocks=2,frozen,augment")
    config.data = small_config.data
    config.model.pretrained = str(real_blocks / "vgg16_blocks12_notop.h5")
    config.eval_batch_size = 16
    config.phases[0].update(epochs=1, batch_size=32)
    experiment.run(experiment.parse(config), tmp_path / "run")
    params, _ = reported_weights(tmp_path / "run")
    stored = np.load(real_blocks / "vgg16_blocks12.npz")
    for name in stored.files:
        layer, variable = name.split("/")
        np.testing.assert_array_equal(params[layer][variable], stored[name])
