"""Damage to images: graded, seeded, and equal to SciPy's where SciPy has it."""

import numpy as np
import pytest
from scipy import ndimage

from mnist_jax.data import corruptions
from mnist_jax.data.corruptions import CORRUPTIONS, STRENGTHS, corrupt


@pytest.fixture(scope="module")
def images(small):
    return small.test.images[:12]


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_each_kind_is_graded_and_seeded(images, name):
    np.testing.assert_array_equal(corrupt(images, name, 0), images)
    damaged = [corrupt(images, name, strength) for strength in STRENGTHS]
    for one in damaged:
        assert one.dtype == np.uint8 and one.shape == images.shape
    distances = [np.abs(one.astype(float) - images).mean() for one in damaged]
    assert 0 < distances[0] and distances == sorted(distances)
    # An image's damage does not depend on how many others there are.
    np.testing.assert_array_equal(corrupt(images[:5], name, 3), damaged[2][:5])
    np.testing.assert_array_equal(corrupt(images, name, 3, seed=0), damaged[2])
    changed = (corrupt(images, name, 3, seed=1) != damaged[2]).any()
    assert changed == (name != "blur")  # which draws nothing


@pytest.mark.parametrize(
    ("field", "value", "matrix", "shift"),
    [
        ("angle", 0.6, [[np.cos(0.6), np.sin(0.6)], [-np.sin(0.6), np.cos(0.6)]], 0),
        ("shear", 0.4, [[np.cos(0.4), 0], [-np.sin(0.4), 1]], 0),
        ("zoom", 1.4, [[1.4, 0], [0, 1.4]], 0),
        ("row_shift", 2.3, np.eye(2), (2.3, 0)),
        ("column_shift", -6.5, np.eye(2), (0, -6.5)),
    ],
)
def test_a_warp_is_scipy_s(images, field, value, matrix, shift):
    ink = images[..., 0].astype(np.float32) / 255
    centre = np.full(2, 13.5)
    offset = centre - np.asarray(matrix) @ centre + shift
    expected = [
        ndimage.affine_transform(one, matrix, offset, order=1, mode="grid-constant")
        for one in ink
    ]
    found = corruptions.warp(ink, **{field: value})
    np.testing.assert_allclose(found, expected, atol=2e-5)


def test_the_damage_is_what_its_amount_says():
    grey = np.full((400, 28, 28, 1), 128, np.uint8)
    for strength, side in zip(STRENGTHS, CORRUPTIONS["occlusion"].amounts, strict=True):
        hidden = corrupt(grey, "occlusion", strength) == 0
        assert (hidden.sum(axis=(1, 2, 3)) == side**2).all()
    noise = corrupt(grey, "noise", 1) / 255 - 128 / 255
    assert noise.std() == pytest.approx(CORRUPTIONS["noise"].amounts[0], rel=0.01)
    assert abs(noise.mean()) < 1e-3

    dots = np.zeros((400, 28, 28, 1), np.uint8)
    dots[:, 14, 14] = 255
    blurred = corrupt(dots, "blur", 2)[0, ..., 0]
    distances = np.arange(28) - 14
    expected = np.exp(-np.add.outer(distances**2, distances**2) / 2)
    np.testing.assert_allclose(blurred, 255 * expected / expected.sum(), atol=1)
