"""What a report shows of the network inside: laws on the packaged LeNet-5."""

import shutil

import numpy as np
import pytest
from sklearn.decomposition import PCA

from mnist_jax import data, report, tree
from mnist_jax.config import Data
from mnist_jax.report import network
from mnist_jax.runs import load
from tests.report.conftest import DEFAULTS

SIZE = 230  # not a multiple of a batch


@pytest.fixture(scope="module")
def run():
    return load.load()


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
    assert [m.shape for m in inside.feature_maps.values()] == [
        (28, 28, 6),
        (10, 10, 16),
    ]
    padded = np.pad(images[0, ..., 0] / 255, 2)
    windows = np.lib.stride_tricks.sliding_window_view(padded, (5, 5))
    expected = np.einsum("yxij,ijn->yxn", windows, inside.kernels)
    found = inside.feature_maps["conv1"]
    bias = (found - expected).mean(axis=(0, 1))
    np.testing.assert_allclose(found, expected + bias, atol=1e-4)


def test_attributions_sum_to_the_difference_of_the_logits(run, images):
    digits = [0, 3, 9]
    found = network.integrated_gradients(run, images[5], digits)
    image, empty = run.logits(np.stack([images[5], 0 * images[5]]))
    expected = (image - empty)[digits]
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


def test_features_that_do_not_vary_have_no_components():
    points, shares = network.principal_components(np.ones((5, 3)))
    assert not points.any() and not shares.any()


def test_a_report_shows_the_network_if_its_weights_are_there(fake_run, run):
    report.write(fake_run.folder, fake_run.images, DEFAULTS)
    text = (fake_run.folder / "report.md").read_text()
    assert "has no `weights.safetensors`" in text and "saliency" not in text
    shutil.copyfile(run.path, fake_run.folder / "weights.safetensors")
    digest = tree.digest((run.params, run.batch_stats))
    fake_run.rewrite_results(parameters_sha256=digest)
    report.write(fake_run.folder, fake_run.images, DEFAULTS)
    text = (fake_run.folder / "report.md").read_text()
    assert "has no `weights.safetensors`" not in text
    for name in ("saliency", "kernels", "feature_maps", "feature_space"):
        assert f"(figures/{name}.png)" in text
        assert (fake_run.folder / "figures" / f"{name}.png").exists()
