"""Random erasing: its rectangles, their noise, and the pixels around them."""

import functools
import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from mnist_jax.config import Augment
from mnist_jax.data import augment
from tests.support.augmenting import (
    ALL,
    KEY,
    assert_plausible,
    assert_uniform,
    compiled,
    keys,
    make_config,
    noise,
    streams,
)

pytestmark = pytest.mark.usefixtures("little_optimized")


@functools.cache
def erase_blank(shape, channels):
    """A compiled function that erases, in images of -1."""
    blank = jnp.full((*shape, channels), -1.0)

    def erase(key, erasing, area):
        config = Augment(erasing=erasing, erasing_area=area)
        return augment.erase(key, config, blank)

    return jax.jit(jax.vmap(erase, in_axes=(0, None, None)))


@functools.cache
def erased(area, erasing=1.0, shape=(28, 20), count=3000, channels=1):
    """Rectangles (top, bottom, left, right) of many draws, and the pixels inside."""
    images = np.asarray(erase_blank(shape, channels)(keys(count), erasing, area))
    boxes, filled = [], []
    for image in images:
        hit = (image >= 0).all(axis=-1)
        np.testing.assert_array_equal(hit, (image >= 0).any(axis=-1))
        if hit.any():
            rows, columns = (np.flatnonzero(hit.any(axis=axis)) for axis in (1, 0))
            box = rows[0], rows[-1] + 1, columns[0], columns[-1] + 1
            assert hit[box[0] : box[1], box[2] : box[3]].all()  # No holes.
            boxes.append(box)
            filled.append(image[hit])
    return np.array(boxes), filled


@pytest.mark.parametrize("area", [(0.02, 0.2), (0.3, 0.3), (0.9, 0.99), (1e-4, 0.01)])
@pytest.mark.parametrize("shape", [(28, 20), (5, 30)])
def test_rectangles_have_the_areas_and_aspects_that_were_asked_for(area, shape):
    boxes, _ = erased(area, shape=shape, count=800)
    assert len(boxes) == 800
    tall, wide = boxes[:, 1] - boxes[:, 0], boxes[:, 3] - boxes[:, 2]
    found, pixels = tall * wide, shape[0] * shape[1]
    slack = np.maximum(tall, wide) / 2
    assert (found >= area[0] * pixels - slack).all()
    assert (found <= np.maximum(area[1] * pixels + slack, 1)).all()
    # Aspects that sides may have had before they were rounded.
    low = min(augment.ERASED_ASPECTS[0], shape[0] ** 2 / (area[1] * pixels))
    high = max(augment.ERASED_ASPECTS[1], area[1] * pixels / shape[1] ** 2)
    assert ((tall + 0.5) ** 2 / (tall * (wide - 0.5)) >= low - 1e-3).all()
    assert ((tall - 0.5) ** 2 / (tall * (wide + 0.5)) <= high + 1e-3).all()


def test_areas_are_uniform_and_aspects_log_uniform():
    # Of an image so large that rounding and edges hardly matter.
    boxes, _ = erased((0.05, 0.15), shape=(150, 150), count=800)
    tall, wide = boxes[:, 1] - boxes[:, 0], boxes[:, 3] - boxes[:, 2]
    low, high = 0.05 * 150**2, 0.15 * 150**2
    uniform = scipy.stats.uniform(low, high - low)
    assert_plausible(scipy.stats.kstest(tall * wide, uniform.cdf, method="asymp"))
    reach = math.log(1 / 0.3)
    aspects = np.log(tall / wide)
    log_uniform = scipy.stats.uniform(-reach, 2 * reach)
    assert_plausible(scipy.stats.kstest(aspects, log_uniform.cdf, method="asymp"))
    assert_plausible(scipy.stats.spearmanr(tall * wide, aspects))


def test_rectangles_lie_anywhere_inside():
    boxes, _ = erased((0.02, 0.2))
    sides = ((boxes[:, 0], boxes[:, 1], 28), (boxes[:, 2], boxes[:, 3], 20))
    for first, last, size in sides:
        # Ranks among the places at which it fits, made continuous.
        places = size - (last - first) + 1
        ranks = (first + np.random.default_rng(0).random(len(first))) / places
        assert_uniform(ranks, 0, 1)
    assert_plausible(scipy.stats.spearmanr(boxes[:, 0], boxes[:, 2]))


@pytest.mark.parametrize("share", [0.25, 0.9])
def test_the_share_of_erased_images_is_that_of_the_config(share):
    boxes, _ = erased((0.02, 0.2), erasing=share)
    assert_plausible(scipy.stats.binomtest(len(boxes), 3000, share))


@pytest.mark.parametrize("channels", [1, 3])
def test_rectangles_are_filled_with_uniform_noise(channels):
    _, filled = erased((0.02, 0.2), count=300, channels=channels)
    assert_uniform(np.concatenate([pixels.ravel() for pixels in filled]), 0, 1)
    if channels == 3:
        values = np.concatenate(filled)
        for one, two in itertools.combinations(values.T, 2):
            assert_plausible(scipy.stats.spearmanr(one, two))


def test_erasing_leaves_the_warp_and_the_other_pixels_alone():
    images = noise(40, 20, 14, 1)
    warped = np.asarray(compiled(**ALL | {"erasing": 0.0})(KEY, images))
    found = np.asarray(compiled(**ALL)(KEY, images))
    changed = found != warped
    touched = changed.any(axis=(1, 2, 3))
    assert 0 < touched.sum() < 40
    assert changed[touched].mean(axis=(1, 2, 3)).max() < 0.23
    # By the key that is the erasing's own.
    erasing_keys = jnp.stack([streams(place)[2] for place in range(40)])
    erase = jax.vmap(lambda key, image: augment.erase(key, make_config(**ALL), image))
    np.testing.assert_allclose(jax.jit(erase)(erasing_keys, warped), found, atol=1e-5)
