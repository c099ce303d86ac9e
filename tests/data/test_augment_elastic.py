"""Elastic deformation: how far pixels move, how smoothly, how independently."""

import functools
import math

import jax
import numpy as np
import pytest

from mnist_jax.data import augment
from tests.support.augmenting import keys, make_config

pytestmark = pytest.mark.usefixtures("little_optimized")


@functools.cache
def displacements(elastic=1.7, smoothness=2.0, shape=(20, 14), count=3000):
    config = make_config(elastic=elastic, elastic_smoothness=smoothness)
    draw = jax.jit(jax.vmap(lambda k: augment.draw_displacements(k, config, shape)))
    return np.asarray(draw(keys(count)), np.float64)


@pytest.mark.parametrize("smoothness", [0.01, 2.0, 1e4])
def test_displacements_deviate_as_told_at_every_pixel(smoothness):
    found = displacements(smoothness=smoothness)
    assert found.shape == (3000, 2, 20, 14)
    deviations = np.sqrt((found**2).mean(axis=0))
    # The standard error of a deviation: 1.7 / sqrt(2 x 3000) = 0.022.
    np.testing.assert_allclose(deviations, 1.7, atol=5 * 0.022)
    assert np.abs(found.mean(axis=0)).max() < 5 * 1.7 / math.sqrt(3000)


@pytest.mark.parametrize("smoothness", [1.0, 2.0])
def test_displacements_are_as_smooth_as_told(smoothness):
    found = displacements(smoothness=smoothness, shape=(32, 32)) / 1.7
    middle = found[:, :, 16, 16]
    # White noise smoothed by a Gaussian has the correlation of one sqrt(2) as wide.
    for distance in (1, 2, 4):
        expected = math.exp(-((distance / smoothness) ** 2) / 4)
        for row, column in ((16 + distance, 16), (16, 16 - distance)):
            correlation = (middle * found[:, :, row, column]).mean(axis=0)
            np.testing.assert_allclose(correlation, expected, atol=0.09)


def test_displacements_of_rows_and_columns_and_of_images_are_independent():
    found = displacements() / 1.7
    assert abs((found[:, 0] * found[:, 1]).mean(axis=0)).max() < 0.1
    assert abs((found[:-1] * found[1:]).mean(axis=0)).max() < 0.1
