"""The warp itself, with given parameters: as in SciPy and Keras, and to the eye."""

import functools
import math
import os
import warnings

import jax
import numpy as np
import pytest
import scipy.ndimage
from hypothesis import given, settings
from hypothesis import strategies as st

from mnist_jax.data import augment
from tests.support.augmenting import centre_of, noise, scalars, warp_about

pytestmark = pytest.mark.usefixtures("little_optimized")

SHAPES = [(28, 28, 1), (7, 7, 3), (28, 20, 1), (9, 32, 3)]


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
