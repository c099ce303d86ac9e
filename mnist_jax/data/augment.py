"""Random changes of training images: pure functions, made for the jitted step.

Rotation, shift, shear and zoom are those of Keras's ImageDataGenerator. Together with
the elastic displacements they are one map from the pixels of the result to places in
the image, which one bilinear interpolation reads; places outside the image have the
value of the nearest edge. Random erasing comes after that.

What `create` builds is about a batch, all else about one image.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.ndimage import map_coordinates
from jaxtyping import Array, Float32, PRNGKeyArray

from mnist_jax.config import Augment, ConfigError
from mnist_jax.devices import shards

AugmentFn = Callable[
    [PRNGKeyArray, Float32[Array, "batch height width channels"]],
    Float32[Array, "batch height width channels"],
]

CENTRES = {"image": 0.0, "report": 1.0}
"""What a warp turns about: pixels down and right of the middle of the image.

The middle is size / 2 - 0.5, counted from the first pixel. The Keras of the report had
size / 2 + 0.5, so that digits shift a little as they turn.
"""

ERASED_ASPECTS = (0.3, 1 / 0.3)
"""Height by width of the erased rectangles, from and to."""


class WarpParameters(NamedTuple):
    """How an image is turned, shifted, sheared and zoomed."""

    angle: Float32[Array, ""]
    """Radians; above 0, the digit turns counterclockwise."""
    row_shift: Float32[Array, ""]
    """Pixels; above 0, the digit moves up (if it is not turned)."""
    column_shift: Float32[Array, ""]
    """Pixels; above 0, the digit moves left (if it is not turned)."""
    shear: Float32[Array, ""]
    """Radians by which the columns lean; above 0, the digit's top moves left."""
    row_zoom: Float32[Array, ""]
    """Factor of the rows that the result covers; above 1, the digit gets lower."""
    column_zoom: Float32[Array, ""]
    """Factor of the columns that the result covers; above 1, the digit narrows."""


def create(config: Augment) -> AugmentFn | None:
    """Build `augment(key, images) -> images`, or None if nothing is on.

    What an image becomes depends on the key and on its place in the batch alone. Images
    are float32 in 0..1, and stay so.

    Args:
        config: which changes, and how large.

    Raises:
        ConfigError: `elastic_smoothness` or `erasing_area` cannot be used.
    """
    _check(config)
    affine = config.rotation or config.shift or config.shear or config.zoom
    if not (affine or config.elastic or config.erasing):
        return None

    def augment_one(
        key: PRNGKeyArray, image: Float32[Array, "height width channels"]
    ) -> Float32[Array, "height width channels"]:
        height, width, _ = image.shape
        # One each, on or not: what a transform draws does not depend on the others.
        # Few calls of jax.random: each takes XLA half a second to compile.
        warp_key, elastic_key, erasing_key = jax.random.split(key, 3)
        if affine or config.elastic:
            parameters = draw_parameters(warp_key, config, (height, width))
            off = CENTRES[config.centre] - 0.5
            matrix = affine_matrix(parameters, (height / 2 + off, width / 2 + off))
            displacements = None
            if config.elastic:
                displacements = draw_displacements(elastic_key, config, (height, width))
            image = warp(image, matrix, displacements)
        if config.erasing:
            image = erase(erasing_key, config, image)
        return image

    def augment(
        key: PRNGKeyArray, images: Float32[Array, "batch height width channels"]
    ) -> Float32[Array, "batch height width channels"]:
        places = shards.places(len(images))
        keys = jax.vmap(jax.random.fold_in, in_axes=(None, 0))(key, places)
        return jax.vmap(augment_one)(keys, images)

    return augment


def draw_parameters(
    key: PRNGKeyArray, config: Augment, shape: tuple[int, int]
) -> WarpParameters:
    """Draw from ImageDataGenerator's distributions: uniform and independent.

    Args:
        key: the warp's, of one image.
        config: `rotation` and `shear`, degrees to either side; `shift`, share of the
            height and of the width to either side; `zoom`, from 1 - zoom to 1 + zoom.
        shape: height and width of the image, in pixels.
    """
    height, width = shape
    rotation, shear = math.radians(config.rotation), math.radians(config.shear)
    shifts = config.shift * height, config.shift * width
    limits = jnp.array([rotation, *shifts, shear, config.zoom, config.zoom])
    drawn = limits * jax.random.uniform(key, limits.shape, jnp.float32, -1, 1)
    middle = WarpParameters(*jnp.array([0.0, 0, 0, 0, 1, 1]))
    return jax.tree.map(jnp.add, middle, WarpParameters(*drawn))


def affine_matrix(
    parameters: WarpParameters,
    centre: tuple[float | Float32[Array, ""], float | Float32[Array, ""]],
) -> Float32[Array, "2 3"]:
    """Return the map from the result's (row, column, 1) to the image's (row, column).

    That is Keras's product of rotation, shift, shear and zoom about `centre` (row and
    column of a fixed point, if nothing is shifted), multiplied out: zoom comes first.
    """
    angle, row_shift, column_shift, shear, row_zoom, column_zoom = parameters
    cos, sin = jnp.cos(angle), jnp.sin(angle)
    rows = jnp.cos(angle + shear) * row_zoom, sin * column_zoom
    columns = -jnp.sin(angle + shear) * row_zoom, cos * column_zoom
    shift = cos * row_shift + sin * column_shift, cos * column_shift - sin * row_shift
    # No matrix products here and in `warp`: accelerators round their factors.
    kept = [r * centre[0] + c * centre[1] for r, c in (rows, columns)]
    offset = [centre[axis] - kept[axis] + shift[axis] for axis in (0, 1)]
    return jnp.array([[*rows, offset[0]], [*columns, offset[1]]])


def warp(
    image: Float32[Array, "height width channels"],
    matrix: Float32[Array, "2 3"],
    displacements: Float32[Array, "2 height width"] | None = None,
) -> Float32[Array, "height width channels"]:
    """Return the image whose pixels are read at the places that `matrix` gives.

    Args:
        image: in 0..1, and so is what comes out.
        matrix: of `affine_matrix`.
        displacements: what is added to these places: rows and columns, in pixels.
    """
    rows = jnp.arange(image.shape[0], dtype=jnp.float32)[:, None]
    columns = jnp.arange(image.shape[1], dtype=jnp.float32)[None, :]
    places = [line[0] * rows + line[1] * columns + line[2] for line in matrix]
    if displacements is not None:
        places = [
            place + more for place, more in zip(places, displacements, strict=True)
        ]

    # A gather of four neighbours by flat indices is longer and no faster: 0.28 ms for
    # 86 images of 28x28, this 0.19 ms; both 0.2 ms a step under `lax.scan` (two x86
    # cores, jax 0.10.2).
    def interpolate(channel: Array) -> Array:
        return map_coordinates(channel, places, order=1, mode="nearest")

    warped = jax.vmap(interpolate, in_axes=-1, out_axes=-1)(image)
    return jnp.clip(warped, 0, 1)  # The weights' sum may be a rounding above 1.


def draw_displacements(
    key: PRNGKeyArray, config: Augment, shape: tuple[int, int]
) -> Float32[Array, "2 height width"]:
    """Draw an elastic deformation: uniform noise, smoothed by a Gaussian and scaled.

    The scale is that of the distribution, not of the single draw: some images are
    deformed more than others, and over draws the standard deviation is the same at
    every pixel, the edges included.

    Args:
        key: the deformation's, of one image.
        config: `elastic` and `elastic_smoothness`, the standard deviations of the
            displacements and of the Gaussian, in pixels.
        shape: height and width of the image, in pixels.

    Returns:
        Displacements of rows and of columns in pixels, independent of each other.

    References:
        Simard, Steinkraus, Platt, 2003, "Best practices for convolutional neural
        networks applied to visual document analysis":
        https://doi.org/10.1109/ICDAR.2003.1227801
    """
    # As one row: XLA compiles that five times faster than the same with its shape.
    noise = jax.random.uniform(key, (2 * math.prod(shape),), jnp.float32, -1, 1)
    noise = noise.reshape(2, *shape)
    down, across = (_smoothing(size, config.elastic_smoothness) for size in shape)
    smooth = jnp.einsum("rh,ahw,cw->arc", down, noise, across)
    return config.elastic * math.sqrt(3) * smooth  # The noise's variance is 1/3.


def erase(
    key: PRNGKeyArray, config: Augment, image: Float32[Array, "height width channels"]
) -> Float32[Array, "height width channels"]:
    """Fill a random rectangle with uniform noise in 0..1, or leave the image alone.

    The rectangle lies wholly inside the image. Of its area it is drawn how large and
    then, log-uniformly, how tall it is, among the aspects of `ERASED_ASPECTS` that fit
    (the paper's uniform draw favours tall ones). Its sides are whole pixels: the area
    may be half a side off.

    Args:
        key: the erasing's, of one image.
        config: `erasing`, the probability, and `erasing_area`, the rectangle's area
            from and to, as shares of the image's.
        image: in 0..1.

    References:
        Zhong, Zheng, Kang, Li, Yang, 2017: https://arxiv.org/abs/1708.04896
    """
    height, width, _ = image.shape
    # As one row, as in `draw_displacements`.
    drawn = jax.random.uniform(key, (5 + image.size,), jnp.float32)
    on, share, aspect, top, left = drawn[:5]
    smallest, largest = config.erasing_area
    area = (smallest + share * (largest - smallest)) * height * width
    fitting = area / width**2, height**2 / area
    lowest, highest = (jnp.log(jnp.clip(a, *fitting)) for a in ERASED_ASPECTS)
    aspect = jnp.exp(lowest + aspect * (highest - lowest))
    tall = jnp.clip(jnp.round(jnp.sqrt(area * aspect)), 1, height)
    wide = jnp.clip(jnp.round(area / tall), 1, width)
    top = jnp.floor(top * (height - tall + 1))
    left = jnp.floor(left * (width - wide + 1))
    rows = jnp.arange(height)[:, None, None]
    columns = jnp.arange(width)[None, :, None]
    inside = (rows >= top) & (rows < top + tall)
    inside &= (columns >= left) & (columns < left + wide)
    erased = (on < config.erasing) & inside
    return jnp.where(erased, drawn[5:].reshape(image.shape), image)


def _smoothing(size: int, deviation: float) -> Float32[np.ndarray, "size size"]:
    """Return a Gaussian filter as a matrix whose rows have the Euclidean norm 1.

    So independent noise keeps its variance, whatever the edges cut off a row.
    """
    distances = np.subtract.outer(np.arange(size), np.arange(size)) / deviation
    weights = np.exp(-(distances**2) / 2)
    norms = np.linalg.norm(weights, axis=1, keepdims=True)
    return (weights / norms).astype(np.float32)


def _check(config: Augment) -> None:
    if config.elastic and not config.elastic_smoothness > 0:
        raise _error(config, "elastic_smoothness", "must be above 0")
    smallest, largest = config.erasing_area
    if not 0 < smallest <= largest < 1:
        expected = "two shares above 0 and below 1, the smaller first"
        raise _error(config, "erasing_area", f"must be {expected}")


def _error(config: Augment, name: str, reason: str) -> ConfigError:
    return ConfigError(f"--config.augment.{name}={getattr(config, name)}: {reason}.")
