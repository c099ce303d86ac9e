"""The draws of a warp and of elastic deformation: distributions, independence."""

import functools
import itertools
import math

import jax
import numpy as np
import pytest
import scipy.stats

from mnist_jax.data import augment
from mnist_jax.data.augment import WarpParameters
from tests.support.augmenting import (
    AFFINE,
    KEY,
    assert_plausible,
    assert_uniform,
    centre_of,
    compiled,
    keys,
    make_config,
    noise,
    scalars,
    streams,
    warp_about,
)

pytestmark = pytest.mark.usefixtures("little_optimized")


@functools.cache
def drawn(count=4000, shape=(28, 20), **fields):
    """Parameters of many draws, as NumPy arrays."""
    config = make_config(**fields)
    draw = jax.jit(jax.vmap(lambda k: augment.draw_parameters(k, config, shape)))
    return jax.tree.map(np.asarray, draw(keys(count)))


def test_parameters_have_the_distributions_of_keras():
    parameters = drawn(rotation=12.0, shift=0.2, shear=20.0, zoom=0.3)
    assert_uniform(parameters.angle, -math.radians(12), math.radians(12))
    assert_uniform(parameters.row_shift, -0.2 * 28, 0.2 * 28)
    assert_uniform(parameters.column_shift, -0.2 * 20, 0.2 * 20)
    assert_uniform(parameters.shear, -math.radians(20), math.radians(20))
    assert_uniform(parameters.row_zoom, 0.7, 1.3)
    assert_uniform(parameters.column_zoom, 0.7, 1.3)


def test_parameters_are_independent():
    parameters = drawn(rotation=12.0, shift=0.2, shear=20.0, zoom=0.3)
    for one, two in itertools.combinations(parameters, 2):
        assert_plausible(scipy.stats.spearmanr(one, two))
        # Nor in size.
        sizes = [np.abs(values - values.mean()) for values in (one, two)]
        assert_plausible(scipy.stats.spearmanr(*sizes))


@pytest.mark.parametrize("name", AFFINE)
def test_a_transform_draws_the_same_whether_others_are_on_or_not(name):
    alone, together = drawn(count=50, **{name: AFFINE[name]}), drawn(count=50, **AFFINE)
    mine = [field for field in WarpParameters._fields if name in field] or ["angle"]
    assert len(mine) == (2 if name in ("shift", "zoom") else 1)
    identity = scalars()
    for field in WarpParameters._fields:
        values = getattr(alone, field)
        if field in mine:
            np.testing.assert_array_equal(values, getattr(together, field))
            assert len(np.unique(values)) == 50
        else:
            assert (values == getattr(identity, field)).all()


@pytest.mark.parametrize(("centre", "more"), [("image", 0.0), ("report", 1.0)])
def test_images_are_warped_by_their_draws(centre, more):
    shape = (12, 20, 3)
    images = noise(4, *shape)
    config = make_config(**AFFINE, centre=centre)
    ours = compiled(**AFFINE, centre=centre)(KEY, images)
    for place, image in enumerate(images):
        key, _, _ = streams(place)
        parameters = augment.draw_parameters(key, config, shape[:2])
        expected = warp_about(image, parameters, centre_of(shape, more))
        np.testing.assert_allclose(ours[place], expected, atol=1e-5)


# -- elastic deformation


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
