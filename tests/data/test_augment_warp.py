"""The warp itself, with given parameters: as in SciPy and Keras, and to the eye."""

import functools
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


@settings(max_examples=30, deadline=None)
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


@settings(max_examples=20, deadline=None)
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
