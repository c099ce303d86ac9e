"""Other pens: grey morphology and blur as in SciPy, strokes for their classes alone."""

import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from scipy import ndimage

from mnist_jax.data import pens
from tests.support.augmenting import (
    KEY,
    PEN,
    assert_plausible,
    compiled,
    make_config,
    noise,
)

pytestmark = pytest.mark.usefixtures("little_optimized")

STROKES = ((1, 0.4, 0.5, 0.0, -0.3, 0.0, 0.3), (2, 1.0, 0.0, 0.0, 0.0, 0.3, -0.3))


def test_dilation_and_erosion_are_scipys():
    image = noise(20, 14, 2)
    expected = ndimage.grey_dilation(image, (3, 3, 1))
    np.testing.assert_array_equal(pens.dilate(jnp.array(image)), expected)
    expected = ndimage.grey_erosion(image, (3, 3, 1))
    np.testing.assert_array_equal(-pens.dilate(-jnp.array(image)), expected)


@pytest.mark.parametrize("deviation", [0.0, 0.7, 2.0])
def test_blur_is_scipys(deviation):
    image = np.pad(noise(8, 6), 12)
    down, across = (pens.gaussian(size, deviation) for size in image.shape)
    expected = ndimage.gaussian_filter(image, deviation, mode="constant", truncate=8)
    np.testing.assert_allclose(down @ image @ across.T, expected, atol=1e-5)


def test_at_no_strength_nothing_changes():
    config, image = make_config(**PEN, strokes=STROKES), noise(20, 14, 1)
    np.testing.assert_allclose(
        pens.change_pen(KEY, config, image, 0.0), image, atol=1e-6
    )
    for label in (1, 2):
        found = pens.add_strokes(KEY, config, image, jnp.array(label), 0.0)
        np.testing.assert_array_equal(found, image)


def test_strokes_are_drawn_for_their_class_with_their_probability():
    image = np.zeros((28, 28, 1), np.float32)
    image[4:24, 12:15] = 0.9
    images, labels = np.repeat(image[None], 300, axis=0), np.arange(300) % 3
    draw = compiled(strokes=STROKES)
    found = np.asarray(draw(KEY, images, 0.0, labels))
    assert np.all(found >= images) and found.max() <= 1
    changed = (found != images).any(axis=(1, 2, 3))
    assert not changed[labels == 0].any() and changed[labels == 2].all()
    assert_plausible(scipy.stats.binomtest(int(changed[labels == 1].sum()), 100, 0.4))
    np.testing.assert_array_equal(draw(KEY, images), images)
    blank = np.zeros_like(images)
    np.testing.assert_array_equal(draw(KEY, blank, 0.0, labels), blank)
