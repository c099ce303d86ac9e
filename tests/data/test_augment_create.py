"""The function that a config describes, and the configs that are refused."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from scipy import ndimage

from mnist_jax.data import augment, pens
from mnist_jax.errors import UserError
from tests.support.augmenting import (
    AFFINE,
    ALL,
    KEY,
    PEN,
    assert_plausible,
    compiled,
    create,
    keys,
    make_config,
    noise,
)

pytestmark = pytest.mark.usefixtures("little_optimized")

ALONE = {"affine": AFFINE, "elastic": {"elastic": 1.5}, "erasing": {"erasing": 1.0}}


@pytest.mark.parametrize("fields", [*ALONE.values(), ALL], ids=[*ALONE, "all"])
def test_images_keep_shape_type_and_range_and_change_each_in_its_way(fields):
    images = np.repeat(noise(1, 20, 14, 1), 40, axis=0)
    images = np.where(images > 0.3, 1, 0).astype(np.float32)  # The extremes.
    found = np.asarray(compiled(**fields)(KEY, images))
    assert found.shape == images.shape and found.dtype == np.float32
    assert found.min() >= 0 and found.max() <= 1
    if fields != ALL:
        assert (found != images).any(axis=(1, 2, 3)).all()
    assert len(np.unique(found.reshape(40, -1), axis=0)) == 40
    again = compiled(**fields)(jax.random.key(1), images)
    assert (np.asarray(again) != found).any(axis=(1, 2, 3)).all()


def test_an_image_depends_on_the_key_and_its_place_alone():
    images = noise(40, 20, 14, 1)
    whole = np.asarray(compiled(**ALL)(KEY, images))
    others = noise(40, 20, 14, 1, seed=1)
    others[5] = images[5]
    found = np.asarray(compiled(**ALL)(KEY, others))
    np.testing.assert_array_equal(found[5], whole[5])
    assert (found[:5] != whole[:5]).any(axis=(1, 2, 3)).all()
    np.testing.assert_array_equal(compiled(**ALL)(KEY, images), whole)
    # Nor on how many there are.
    np.testing.assert_allclose(compiled(**ALL)(KEY, images[:6]), whole[:6], atol=1e-5)


def test_in_a_loop_and_over_seeds_it_is_the_same():
    images, function = jnp.asarray(noise(40, 20, 14, 1)), create(**ALL)
    seeds = keys(4).reshape(2, 2)
    over_seeds = jax.vmap(function, in_axes=(0, None))
    _, found = jax.lax.scan(lambda c, keys: (c, over_seeds(keys, images)), None, seeds)
    for place in np.ndindex(2, 2):
        expected = compiled(**ALL)(seeds[place], images)
        np.testing.assert_allclose(found[place], expected, atol=1e-5)


@pytest.mark.parametrize(("progress", "strength"), [(0.3, 1.0), (0.8, 0.5)])
def test_a_fade_shrinks_what_the_same_draws_change(progress, strength):
    """As if the config had smaller numbers; until it begins, as if it had none."""
    images = noise(40, 20, 14, 1)
    found = compiled(**ALL, fade=0.4)(KEY, images, np.float32(progress))
    smaller = {name: strength * value for name, value in ALL.items()}
    expected = compiled(**smaller)(KEY, images)
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_at_the_end_of_a_fade_nothing_is_changed():
    images = noise(40, 20, 14, 1)
    found = compiled(**ALL, fade=0.4)(KEY, images, np.float32(1.0))
    np.testing.assert_allclose(found, images, atol=1e-5)


@pytest.mark.parametrize("others", [{}, ALL], ids=["alone", "with all"])
def test_some_images_are_mirrored_before_all_else_and_draw_as_if_none_were(others):
    images = noise(40, 20, 14, 2)
    flipped = np.flip(images, axis=2)
    plain, mirrored = images, flipped
    if others:
        plain, mirrored = (compiled(**others)(KEY, x) for x in (images, flipped))
    always = compiled(**others, flip=1.0)(KEY, images)
    np.testing.assert_allclose(always, mirrored, atol=1e-5)
    found = np.asarray(compiled(**others, flip=0.4)(KEY, images))
    which = np.abs(found - mirrored).max(axis=(1, 2, 3)) < 1e-5
    assert_plausible(scipy.stats.binomtest(int(which.sum()), 40, 0.4))
    expected = np.where(which[:, None, None, None], mirrored, plain)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    faded = compiled(**others, flip=0.4, fade=0.5)(KEY, images, np.float32(1.0))
    np.testing.assert_allclose(faded, images, atol=1e-5)


def test_no_function_where_everything_is_off():
    assert augment.create(make_config()) is None
    fields = {"centre": "report", "erasing_area": (0.1, 0.3), "elastic_smoothness": 9.0}
    assert augment.create(make_config(**fields, fade=0.5)) is None


@pytest.mark.parametrize(
    "bad",
    [(0.0, 0.5), (0.1, 1.0), (0.3, 0.2), (-0.1, 0.2), (0.1, math.nan), (math.nan, 0.1)],
)
def test_a_bad_area_is_refused(bad):
    with pytest.raises(UserError, match="two shares above 0 and below 1") as caught:
        augment.create(make_config(erasing_area=bad))
    assert str(caught.value).startswith(f"--config.augment.erasing_area={bad}: must be")


def test_the_ends_of_the_ranges_work():
    warps = {"rotation": 180.0, "zoom": 0.99, "shift": 0.99, "shear": 89.0}
    elastic = {"elastic": 30.0, "elastic_smoothness": 1e-3}
    erasing = {"erasing": 1.0, "erasing_area": (0.001, 0.999)}
    found = np.asarray(compiled(**warps, **elastic, **erasing)(KEY, noise(99, 9, 9, 1)))
    assert np.isfinite(found).all() and 0 <= found.min() and found.max() <= 1


@pytest.mark.parametrize("share", [-0.1, 1.5, math.nan])
def test_a_stroke_of_an_impossible_probability_is_refused(share):
    stroke = (7, share, 0.5, 0.0, -0.25, 0.0, 0.25)
    with pytest.raises(UserError, match=r"^--config\.augment\.strokes\[0\]=.*0\.\.1"):
        augment.create(make_config(strokes=(stroke,)))


# -- other pens


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
