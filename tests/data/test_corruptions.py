"""Damage to images: graded, seeded, and as large as it says."""

import numpy as np
import pytest

from mnist_jax.data import corruptions
from mnist_jax.data.corruptions import CORRUPTIONS, corrupt


@pytest.fixture(scope="module")
def images(small):
    return small.test.images[:12]


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_each_kind_is_graded_and_seeded(images, name):
    np.testing.assert_array_equal(corrupt(images, name, 0), images)
    amounts = CORRUPTIONS[name].amounts
    damaged = [corrupt(images, name, amount) for amount in amounts]
    for one in damaged:
        assert one.dtype == np.uint8 and one.shape == images.shape
    distances = [np.abs(one.astype(float) - images).mean() for one in damaged]
    assert 0 < distances[0] and distances == sorted(distances)
    # An image's damage does not depend on how many others there are.
    np.testing.assert_array_equal(corrupt(images[:5], name, amounts[2]), damaged[2][:5])
    changed = (corrupt(images, name, amounts[2], seed=1) != damaged[2]).any()
    assert changed == (name != "blur")  # which draws nothing


def test_a_warp_moves_pixels_to_their_places(images):
    """A quarter turn, whole pixels, and every second place between two pixels."""
    ink = images[..., 0].astype(np.float32) / 255
    turned = corruptions.warp(ink, angle=np.pi / 2)
    np.testing.assert_allclose(turned, np.rot90(ink, axes=(1, 2)), atol=1e-5)
    moved = np.zeros_like(ink)
    moved[:, :-3, 2:] = ink[:, 3:, :-2]
    shifted = corruptions.warp(ink, row_shift=3, column_shift=-2)
    np.testing.assert_allclose(shifted, moved, atol=1e-6)
    smaller = np.zeros_like(ink)
    smaller[:, 7:21, 7:21] = ink.reshape(-1, 14, 2, 14, 2).mean(axis=(2, 4))
    np.testing.assert_allclose(corruptions.warp(ink, zoom=2.0), smaller, atol=1e-6)


def test_the_damage_is_what_its_amount_says():
    grey = np.full((400, 28, 28, 1), 128, np.uint8)
    for side in CORRUPTIONS["occlusion"].amounts:
        hidden = corrupt(grey, "occlusion", side) == 0
        assert (hidden.sum(axis=(1, 2, 3)) == side**2).all()
    noise = corrupt(grey, "noise", 0.1) / 255 - 128 / 255
    assert noise.std() == pytest.approx(0.1, rel=0.01)
    assert abs(noise.mean()) < 1e-3

    dots = np.zeros((400, 28, 28, 1), np.uint8)
    dots[:, 14, 14] = 255
    blurred = corrupt(dots, "blur", 1.0)[0, ..., 0]
    distances = np.arange(28) - 14
    expected = np.exp(-np.add.outer(distances**2, distances**2) / 2)
    np.testing.assert_allclose(blurred, 255 * expected / expected.sum(), atol=1)
