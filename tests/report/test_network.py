"""What a report shows of the network inside, for any network."""

import functools
import types
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.decomposition import PCA

from mnist_jax import data, models, report
from mnist_jax.config import Data
from mnist_jax.data import Task
from mnist_jax.models.capsnet import CapsNet
from mnist_jax.report import network, network_figures, style
from mnist_jax.runs import load
from tests.report.conftest import DEFAULTS, DIGITS, make_run
from tests.report.test_figures import OF_X
from tests.support import own_nets
from tests.support.drawing import draw_weights
from tests.support.networks import SMALL
from tests.support.small_vgg import Narrow

pytestmark = pytest.mark.usefixtures("little_optimized")

SIZE = 230  # not a multiple of a batch
INSIDE = {"saliency", "kernels", "feature_maps", "feature_space"}
OF_CAPSULES = {"reconstructions", "capsules"}


@pytest.fixture(scope="module")
def run():
    return load.load(Path(__file__).parents[2] / "results/lenet5-tuned/seed0")


@pytest.fixture(scope="module")
def images():
    dataset = data.load(Data(source="digits", val_size=138))
    return dataset.test.images[:SIZE]


@pytest.fixture(scope="module")
def inside(run, images):
    return network.look_inside(run, images)


def test_the_last_layer_makes_the_logits_of_the_features(run, images, inside):
    assert len(inside.features) == SIZE
    last = run.params["logits"]
    logits = inside.features @ np.asarray(last["kernel"]) + np.asarray(last["bias"])
    np.testing.assert_allclose(logits, run.logits(images), atol=1e-4)


def test_the_first_feature_maps_are_convolutions_with_the_kernels(images, inside):
    shapes = {name: maps.shape for name, maps in inside.feature_maps.items()}
    assert shapes == {"conv1": (28, 28, 6), "conv2": (10, 10, 16)}
    padded = np.pad(images[0, ..., 0] / 255, 2)
    windows = np.lib.stride_tricks.sliding_window_view(padded, (5, 5))
    expected = np.einsum("yxij,ijn->yxn", windows, inside.kernels)
    found = inside.feature_maps["conv1"]
    bias = (found - expected).mean(axis=(0, 1))
    np.testing.assert_allclose(found, expected + bias, atol=1e-4)


def test_attributions_sum_to_the_difference_of_the_logits(run, images):
    labels = [0, 3, 9]
    found = network.integrated_gradients(run, images[5], labels)
    image, empty = run.logits(np.stack([images[5], 0 * images[5]]))
    expected = (image - empty)[labels]
    np.testing.assert_allclose([one.difference for one in found], expected, atol=1e-4)
    sums = [one.attributions.sum() for one in found]
    allowed = network.TOLERANCE * np.abs(image - empty).max()
    np.testing.assert_allclose(sums, expected, atol=1.01 * allowed)
    background = images[5, ..., 0] == 0
    assert not any(one.attributions[background].any() for one in found)


def test_principal_components_are_those_of_scikit_learn(inside):
    points, shares = network.principal_components(inside.features)
    expected = PCA(2, svd_solver="full").fit(inside.features)
    np.testing.assert_allclose(shares, expected.explained_variance_ratio_, rtol=1e-4)
    theirs = expected.transform(inside.features)
    signs = np.sign((points * theirs).sum(axis=0))
    np.testing.assert_allclose(points * signs, theirs, atol=1e-3)


@pytest.mark.parametrize("shape", [(5, 3), (1, 3), (5, 1)])
def test_features_that_do_not_vary_have_no_components(shape):
    points, shares = network.principal_components(np.ones(shape))
    assert points.shape == (shape[0], 2) and shares.shape == (2,)
    assert not points.any() and not shares.any()


class Capsules(CapsNet):
    """With a hundredth of the work."""

    channels: int = 4
    capsules: int = 2
    decoder_units: tuple[int, ...] = (8,)


def test_images_are_redrawn_from_the_capsules_of_their_classes():
    """Of the predicted class and, if it is another, of the label; varied or not."""
    model = models.Model("net", Capsules(num_classes=10), task=Task(DIGITS))
    params, batch_stats = draw_weights(model)
    params = jax.tree.map(lambda x: 3 * x, params)
    loaded: Any = types.SimpleNamespace(
        model=model, params=params, batch_stats=batch_stats
    )
    images = np.random.default_rng(0).integers(0, 256, (6, 28, 28, 1), np.uint8)
    scaled = jnp.asarray(images, jnp.float32) / 255
    outputs, _ = jax.jit(functools.partial(model.apply, train=False))(
        params, batch_stats, scaled
    )
    labels = np.array(outputs.logits.argmax(axis=-1))
    labels[3:] = (labels[3:] + 1) % 10
    drawn = network.redraw(loaded, images, labels)
    assert drawn is not None and drawn.labelled is not None and drawn.varied is not None
    expected = 255 * outputs.extra["reconstruction"]
    np.testing.assert_allclose(drawn.predicted, expected, atol=0.51)
    same = (drawn.predicted == drawn.labelled).all(axis=(1, 2, 3))
    assert same.tolist() == [True] * 3 + [False] * 3
    assert drawn.varied.shape == (network.VARIED, 16, 11, 28, 28, 1)
    for place, varied in enumerate(drawn.varied):
        unchanged = np.broadcast_to(drawn.predicted[place], varied[:, 5].shape)
        np.testing.assert_allclose(varied[:, 5], unchanged, atol=1)
        # Each number of the capsule changes the image in its own way.
        assert len(np.unique(varied[:, 0].reshape(16, -1), axis=0)) == 16


# -- reports


class Unordered(nn.Module):
    """Nested modules whose names are not in alphabetical order."""

    @nn.compact
    def __call__(self, images):
        x = images
        for name in ("block2", "block10", "block1"):
            x = own_nets.Block(2, name=name)(x, train=False)
        return nn.Dense(10)(x.mean(axis=(1, 2)))


def write(monkeypatch, folder, module: Any, classes=DIGITS, shape=(28, 28, 1)):
    """Write the report of an untrained network; return the names of its pictures."""
    fake = make_run(folder, classes, shape)
    model = models.Model("net", module, task=Task(tuple(classes), shape))
    params, batch_stats = model.init(jax.random.key(0))
    loaded = types.SimpleNamespace(
        model=model, params=params, batch_stats=batch_stats, classes=classes
    )
    monkeypatch.setattr(load, "load", lambda path: loaded)
    monkeypatch.setattr(network_figures, "IMAGES_MAPPED", 12)
    monkeypatch.setattr(network, "_POINTS", 2)
    # Drawn with few pixels, and without the pictures of other tests, to save time.
    monkeypatch.setattr(style, "DPI", 10)
    for name in ("curves.curves", "figures.confusion_matrix", "figures.mistakes"):
        monkeypatch.setattr(f"mnist_jax.report.{name}", lambda *_: None)
    (fake.folder / "weights.safetensors").touch()
    report.write(fake.folder, fake.images, DEFAULTS)
    text = (fake.folder / "report.md").read_text()
    drawn = {path.stem for path in (fake.folder / "figures").iterdir()}
    assert all(f"(figures/{name}.png)" in text for name in drawn)
    return drawn


def test_a_run_without_weights_says_so(fake_run):
    report.write(fake_run.folder, fake_run.images, DEFAULTS)
    assert "no weights.safetensors" in (fake_run.folder / "report.md").read_text()
    drawn = {path.stem for path in (fake_run.folder / "figures").iterdir()}
    assert not drawn & (INSIDE | OF_CAPSULES)


@pytest.mark.exhaustive  # smaller ones are below
@pytest.mark.parametrize("name", SMALL)
def test_every_registered_network_has_every_picture(monkeypatch, tmp_path, name):
    module = models.MODELS[name]
    if name == "vgg16":
        module = Narrow
    found = write(monkeypatch, tmp_path / "run", module(num_classes=10))
    assert found >= INSIDE


@pytest.mark.parametrize(
    ("module", "shape", "expected"),
    [
        (own_nets.MLP, (28, 28, 1), {"saliency"}),
        (own_nets.FlaxCNN, (28, 28, 1), INSIDE - {"feature_space"}),
        (own_nets.TwoOutputs, (16, 20, 3), INSIDE),
        (own_nets.Autoencoder, (6, 4, 3), {"saliency", "reconstructions"}),
        (Capsules, (24, 20, 3), INSIDE | OF_CAPSULES),
    ],
)
def test_a_network_has_the_pictures_that_it_can_have(
    monkeypatch, tmp_path, module, shape, expected
):
    classes = ("Ankle boot", "<b> | `c`", "あ")
    found = write(monkeypatch, tmp_path / "run", module(3), classes, shape)
    assert found & (INSIDE | OF_CAPSULES) == expected


def test_feature_maps_are_in_the_order_of_the_network_by_whole_path():
    model = models.Model("net", Unordered(), task=Task(DIGITS))
    params, batch_stats = model.init(jax.random.key(0))
    loaded: Any = types.SimpleNamespace(
        model=model, params=params, batch_stats=batch_stats
    )
    inside = network.look_inside(loaded, np.zeros((1, 28, 28, 1), np.uint8))
    names = ["block2/conv", "block10/conv", "block1/conv"]
    assert list(inside.feature_maps) == names and inside.features is None
    kernels = params["block2"]["conv"]["kernel"].sum(axis=2)
    np.testing.assert_array_equal(inside.kernels, kernels)


@pytest.mark.parametrize(("count", "size"), [(1, (3, 7)), (17, (1, 1)), (512, (3, 7))])
def test_kernels_and_maps_of_any_size_are_readable(assert_readable, size, count):
    values = np.random.default_rng(0).normal(size=(*size, count)).astype(np.float32)
    assert_readable(network_figures.kernels(values, OF_X), at_least=1)
    maps = {f"block{n}/a_long_name_of_a_layer/conv": values for n in range(count)}
    figure = network_figures.feature_maps(maps, OF_X)
    assert_readable(figure, at_least=1 + min(count, 12))


@pytest.mark.parametrize(
    ("misread", "shape"), [(0, (7, 9, 3)), (1, (28, 28, 1)), (15, (7, 9, 3))]
)
def test_redrawn_images_are_readable(assert_readable, misread, shape):
    images = np.zeros((15 + misread, *shape), np.uint8)
    drawn = network.Drawn(images, images, np.zeros((2, 30, 11, *shape), np.uint8))
    figure = network_figures.reconstructions(images, drawn, misread, OF_X)
    assert_readable(figure, at_least=6 if misread else 3)
    assert drawn.varied is not None
    assert_readable(network_figures.capsules(drawn.varied, OF_X), at_least=41)
