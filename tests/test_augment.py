"""Augmentation: the warps of SciPy and Keras, the distributions that are promised."""

import functools
import itertools
import math
import os
import types
import warnings
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.ndimage
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from configs import base
from mnist_jax import augment
from mnist_jax.augment import WarpParameters
from mnist_jax.errors import UserError

SHAPES = [(28, 28, 1), (7, 7, 3), (28, 20, 1), (9, 32, 3)]
KEY = jax.random.key(0)
AFFINE = {"rotation": 10.0, "shift": 0.1, "shear": 8.0, "zoom": 0.1}
ALONE = {"affine": AFFINE, "elastic": {"elastic": 1.5}, "erasing": {"erasing": 1.0}}
ALL = AFFINE | {"elastic": 1.5, "erasing": 0.5}


def make_config(**fields):
    config = base.get_config().augment
    for name, value in fields.items():
        config[name] = value
    return config


def create(**fields):
    """The function that a config with these fields describes; never None."""
    created = augment.create(make_config(**fields))
    assert created is not None
    return created


@functools.cache
def compiled(**fields):
    return jax.jit(create(**fields))


def noise(*shape, seed=0) -> Any:
    return np.random.default_rng(seed).random(shape, np.float32)


def scalars(**values):
    """Parameters of one warp; the identity's where nothing is said."""
    identity = WarpParameters(*[jnp.float32(x) for x in (0, 0, 0, 0, 1, 1)])
    return identity._replace(**{k: jnp.float32(v) for k, v in values.items()})


def centre_of(shape, more=0.0):
    return tuple(size / 2 - 0.5 + more for size in shape[:2])


@jax.jit
def warp_about(image, parameters, centre):
    return augment.warp(image, augment.affine_matrix(parameters, centre))


def streams(place):
    """Keys of the warp, the elastic deformation and the erasing of one image."""
    return jax.random.split(jax.random.fold_in(KEY, place), 3)


@functools.cache
def keys(count, seed=0):
    return jax.random.split(jax.random.key(seed), count)


@functools.cache
def drawn(count=4000, shape=(28, 20), **fields):
    """Parameters of many draws, as NumPy arrays."""
    config = make_config(**fields)
    draw = jax.jit(jax.vmap(lambda k: augment.draw_parameters(k, config, shape)))
    return jax.tree.map(np.asarray, draw(keys(count)))


def assert_plausible(test: Any):
    """Of a statistical test with a fixed seed: not an unlikely result."""
    assert test.pvalue > 1e-3


# -- the warp itself, with given parameters


def singles(low, high):
    """Numbers that single precision has."""
    return st.floats(low, high, width=32)


PARAMETERS = st.fixed_dictionaries(
    {
        "angle": singles(-3.125, 3.125),
        "row_shift": singles(-9, 9),
        "column_shift": singles(-9, 9),
        "shear": singles(-1.25, 1.25),
        "row_zoom": singles(0.25, 1.75),
        "column_zoom": singles(0.25, 1.75),
    }
)


def keras_matrix(angle, row_shift, column_shift, shear, row_zoom, column_zoom):
    """Keras's product of matrices, in its x (column) and y (row), about the origin."""
    rotation = [[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0]]
    shift = [[1, 0, column_shift], [0, 1, row_shift]]
    shearing = [[1, -np.sin(shear), 0], [0, np.cos(shear), 0]]
    zoom = [[column_zoom, 0, 0], [0, row_zoom, 0]]
    last = [[0, 0, 1]]
    return functools.reduce(
        np.matmul, [np.array(m + last) for m in (rotation, shift, shearing, zoom)]
    )


def scipy_warp(image, matrix, centre):
    """Warp by a matrix about the origin in (row, column, 1)."""
    linear, shift = matrix[:2, :2], matrix[:2, 2]
    offset = np.array(centre) + shift - linear @ np.array(centre)
    channels = [
        scipy.ndimage.affine_transform(
            channel.astype(float), linear, offset, order=1, mode="nearest"
        )
        for channel in np.moveaxis(image, -1, 0)
    ]
    return np.stack(channels, axis=-1)


@settings(max_examples=60, deadline=None)
@given(PARAMETERS, st.sampled_from(SHAPES), st.sampled_from([0.0, 1.0]))
def test_a_warp_is_that_of_scipy(parameters, shape, more):
    image, centre = noise(*shape), centre_of(shape, more)
    ours = warp_about(image, scalars(**parameters), centre)
    swapped = keras_matrix(**parameters)[np.ix_([1, 0, 2], [1, 0, 2])]
    assert ours.shape == image.shape and ours.dtype == np.float32
    np.testing.assert_allclose(
        ours, scipy_warp(image, swapped, centre), rtol=0, atol=1e-5
    )


@pytest.fixture(scope="module")
def keras_affine():
    os.environ.setdefault("KERAS_BACKEND", "jax")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from keras.src.legacy.preprocessing import image  # type: ignore[import]

    def apply(picture, **parameters):
        with warnings.catch_warnings():
            # It asks SciPy by a name that will go.
            warnings.simplefilter("ignore", DeprecationWarning)
            return image.apply_affine_transform(
                picture, row_axis=0, col_axis=1, channel_axis=2, **parameters
            )

    return apply


@settings(max_examples=40, deadline=None)
@given(PARAMETERS, st.sampled_from([shape for shape in SHAPES if shape[0] == shape[1]]))
def test_a_warp_is_that_of_keras(keras_affine, parameters, shape):
    image = noise(*shape)
    # In its words x is the column, and angles are degrees. (Its centre is wrong where
    # an image is not square.)
    theirs = keras_affine(
        image.astype(float),
        theta=np.rad2deg(parameters["angle"]),
        tx=parameters["column_shift"],
        ty=parameters["row_shift"],
        shear=np.rad2deg(parameters["shear"]),
        zx=parameters["column_zoom"],
        zy=parameters["row_zoom"],
    )
    ours = warp_about(image, scalars(**parameters), centre_of(shape))
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-5)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("more", [0.0, 1.0])
def test_the_identity_changes_no_bit(shape, more):
    image = noise(*shape)
    ours = warp_about(image, scalars(), centre_of(shape, more))
    np.testing.assert_array_equal(ours, image)


@pytest.mark.parametrize("turns", range(4))
def test_a_positive_angle_turns_counterclockwise(turns):
    image = noise(9, 9, 3)
    ours = warp_about(image, scalars(angle=turns * math.pi / 2), centre_of((9, 9)))
    np.testing.assert_allclose(ours, np.rot90(image, turns), atol=1e-5)


def test_shifts_move_up_and_left_and_repeat_the_edge():
    image = noise(6, 8, 1)
    ours = warp_about(image, scalars(row_shift=2, column_shift=-3), (0.0, 0.0))
    expected = np.pad(image, ((0, 2), (3, 0), (0, 0)), mode="edge")[2:, :8]
    np.testing.assert_array_equal(ours, expected)


@pytest.mark.parametrize("axis", [0, 1])
def test_a_zoom_above_1_shrinks_the_digit(axis):
    image = np.zeros((29, 29, 1), np.float32)
    image[8:21, 8:21] = 1
    name = ("row_zoom", "column_zoom")[axis]
    for zoom in (0.8, 1.3):
        ours = warp_about(image, scalars(**{name: zoom}), centre_of(image.shape))
        assert np.asarray(ours).sum() == pytest.approx(image.sum() / zoom, rel=0.03)
        # Of one axis only, and about the middle.
        spans = [(np.asarray(ours).sum(axis=other) > 0).sum() for other in (1, 0)]
        assert spans[1 - axis] == 13
        np.testing.assert_allclose(ours, np.flip(ours, axis), atol=1e-5)


def test_a_shear_leans_the_columns():
    image = np.zeros((29, 29, 1), np.float32)
    image[:, 14] = 1
    ours = np.asarray(warp_about(image, scalars(shear=0.3), centre_of(image.shape)))
    places = ours[..., 0].argmax(axis=1)
    assert places[0] < 14 < places[-1]
    assert places[14] == 14


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("far", [-1e4, 1e4])
def test_what_lies_outside_is_the_nearest_edge(shape, far):
    image = noise(*shape)
    edge = 0 if far < 0 else -1
    down = warp_about(image, scalars(row_shift=far), centre_of(shape))
    np.testing.assert_array_equal(down, np.broadcast_to(image[edge], shape))
    across = warp_about(image, scalars(column_shift=far), centre_of(shape))
    np.testing.assert_array_equal(across, np.broadcast_to(image[:, [edge]], shape))


def test_displacements_are_added_to_the_places_of_the_matrix():
    image = noise(12, 16, 3)
    parameters = scalars(angle=0.4, row_shift=1.2, shear=0.2, column_zoom=1.2)
    matrix = augment.affine_matrix(parameters, centre_of(image.shape))
    displacements = 4 * noise(2, 12, 16, seed=1) - 2
    ours = jax.jit(augment.warp)(image, matrix, displacements)
    rows, columns = np.mgrid[:12, :16]
    homogeneous = np.stack([rows, columns, np.ones_like(rows)])
    places = np.einsum("ai,ihw->ahw", matrix, homogeneous) + displacements
    for channel in range(3):
        expected = scipy.ndimage.map_coordinates(
            image[..., channel], places, order=1, mode="nearest"
        )
        np.testing.assert_allclose(ours[..., channel], expected, atol=1e-5)


# -- the draws of a warp


def assert_uniform(values, low, high):
    assert low <= values.min() and values.max() <= high
    uniform = scipy.stats.uniform(low, high - low)
    assert_plausible(scipy.stats.kstest(values, uniform.cdf, method="asymp"))


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


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        (AFFINE, 6),
        ({"zoom": 0.1}, 6),
        ({"elastic": 1.0}, 6 + 2 * 8 * 9),
        ({"erasing": 0.1}, 5 + 8 * 9 * 3),
        (ALL, 6 + 2 * 8 * 9 + 5 + 8 * 9 * 3),
    ],
)
def test_no_more_numbers_are_drawn_than_are_needed(fields, expected):
    traced = jax.make_jaxpr(create(**fields))(KEY, noise(4, 8, 9, 3))

    def bits(jaxpr):
        for equation in jaxpr.eqns:
            if equation.primitive.name == "random_bits":
                yield math.prod(equation.outvars[0].aval.shape)
            for inner in jax.tree.leaves(list(equation.params.values())):
                if hasattr(inner, "eqns"):
                    yield from bits(inner)

    assert sum(bits(traced.jaxpr)) == 4 * expected


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


def test_some_images_are_deformed_more_than_others():
    sizes = displacements(smoothness=4.0).std(axis=(1, 2, 3))
    assert sizes.max() > 2 * sizes.min()


def test_smoothness_without_neighbours_leaves_uniform_noise():
    found = displacements(elastic=1.0, smoothness=0.01, count=200)
    assert_uniform(found[:, :, ::7, ::7].ravel(), -math.sqrt(3), math.sqrt(3))


def test_images_are_deformed_by_their_displacements():
    images = noise(40, 20, 14, 1)
    ours = compiled(**ALL | {"erasing": 0.0})(KEY, images)
    config = make_config(**ALL)
    for place, image in enumerate(images[:2]):
        warp_key, elastic_key, _ = streams(place)
        parameters = augment.draw_parameters(warp_key, config, (20, 14))
        matrix = jax.jit(augment.affine_matrix)(parameters, centre_of(image.shape))
        moved = augment.draw_displacements(elastic_key, config, (20, 14))
        expected = jax.jit(augment.warp)(image, matrix, moved)
        np.testing.assert_allclose(ours[place], expected, atol=1e-5)


# -- random erasing


@functools.cache
def erase_blank(shape, channels):
    """A compiled function that erases, in images of -1."""
    blank = jnp.full((*shape, channels), -1.0)

    def erase(key, erasing, area):
        config = types.SimpleNamespace(erasing=erasing, erasing_area=area)
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


# -- the function that `create` builds


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
    images, function = noise(40, 20, 14, 1), create(**ALL)
    seeds = keys(4).reshape(2, 2)
    over_seeds = jax.vmap(function, in_axes=(0, None))
    _, found = jax.lax.scan(lambda c, keys: (c, over_seeds(keys, images)), None, seeds)
    for place in np.ndindex(2, 2):
        expected = compiled(**ALL)(seeds[place], images)
        np.testing.assert_allclose(found[place], expected, atol=1e-5)


def test_compiled_or_not_it_is_the_same():
    images = noise(40, 20, 14, 1)
    found = create(**AFFINE)(KEY, images)
    np.testing.assert_allclose(found, compiled(**AFFINE)(KEY, images), atol=1e-5)


@pytest.mark.parametrize("grey", [0.0, 1.0])
def test_what_is_all_one_grey_stays_so(grey):
    images = np.full((40, 20, 14, 1), grey, np.float32)
    found = compiled(**ALL | {"erasing": 0.0})(KEY, images)
    np.testing.assert_allclose(found, grey, atol=1e-6)


def test_no_function_where_everything_is_off():
    assert augment.create(base.get_config().augment) is None
    fields = {"centre": "report", "erasing_area": (0.1, 0.3), "elastic_smoothness": 0.0}
    assert augment.create(make_config(**fields)) is None


NAN, INF = math.nan, math.inf
SHARES = r"two shares above 0 and below 1, the smaller first"


@pytest.mark.parametrize(
    ("name", "bad", "expected"),
    [("rotation", x, "from 0 to 180 degrees") for x in (-1.0, 180.5, NAN, INF)]
    + [("zoom", x, "at least 0 and below 1") for x in (-0.1, 1.0, NAN, INF)]
    + [("shift", x, "at least 0 and below 1") for x in (-0.1, 1.0, NAN, INF)]
    + [("shear", x, "at least 0 and below 90") for x in (-1.0, 90.0, NAN, INF)]
    + [("elastic", x, "at least 0") for x in (-0.1, NAN, INF)]
    + [("elastic_smoothness", x, "finite") for x in (NAN, INF, -INF)]
    + [("erasing", x, "from 0 to 1") for x in (-0.1, 1.1, NAN, INF)]
    + [
        ("erasing_area", x, SHARES)
        for x in [
            (0.0, 0.5),
            (0.1, 1.0),
            (0.3, 0.2),
            (-0.1, 0.2),
            (0.1, NAN),
            (NAN, 0.1),
            (0.1, INF),
            (),
            (0.1,),
            (0.1, 0.2, 0.3),
            ("a", "b"),
            (0.1, None),
        ]
    ],
)
def test_bad_values_are_refused_by_their_flag(name, bad, expected):
    # Whether it is on or off.
    for on in ({}, {"erasing": 0.5}):
        with pytest.raises(UserError) as caught:
            augment.create(make_config(**(on | {name: bad})))
        start, _, rest = str(caught.value).partition(": must be ")
        assert start == f"--config.augment.{name}={bad}"
        assert expected in rest and rest.endswith(".")


@pytest.mark.parametrize("bad", [0.0, -1.0])
def test_a_smoothness_that_is_not_above_0_is_refused_if_it_is_used(bad):
    with pytest.raises(
        UserError, match=rf"^--config\.augment\.elastic_smoothness={bad}: must be above"
    ):
        create(elastic=1.0, elastic_smoothness=bad)


def test_an_unknown_centre_is_refused_with_the_known_ones():
    message = r"^--config\.augment\.centre=middle: unknown \(known: image, report\)\.$"
    for fields in ({}, {"rotation": 1.0}):
        with pytest.raises(UserError, match=message):
            augment.create(make_config(centre="middle", **fields))


def test_the_ends_of_the_ranges_work():
    warps = {"rotation": 180.0, "zoom": 0.99, "shift": 0.99, "shear": 89.0}
    elastic = {"elastic": 30.0, "elastic_smoothness": 1e-3}
    erasing = {"erasing": 1.0, "erasing_area": (0.001, 0.999)}
    found = np.asarray(compiled(**warps, **elastic, **erasing)(KEY, noise(99, 9, 9, 1)))
    assert np.isfinite(found).all() and 0 <= found.min() and found.max() <= 1
