"""Random augmentation of training images: pure functions for the jitted step.

Rotation, shift, shear and zoom are those of Keras's ImageDataGenerator. Together with
the elastic displacements they form a single map from the pixels of the result to places
in the image, read by one bilinear interpolation; outside the image, the nearest edge
counts. Images are mirrored before it, then strokes are drawn and changed (`pens`);
random erasing comes last. All can fade out towards the end of a phase.

All functions but the one that `create` returns take a single image and its key.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.ndimage import map_coordinates
from jaxtyping import Array, Float32, PRNGKeyArray

from mnist_jax.config import Augment, ConfigError, load_object
from mnist_jax.data import pens
from mnist_jax.devices import shards

Image = Float32[Array, "height width channels"]
Images = Float32[Array, "batch height width channels"]
Share = float | Float32[Array, ""]

# Centres of rotation, in pixels from the middle of the image, size / 2 - 0.5. The
# report's version of Keras had size / 2 + 0.5, so that digits shift as they turn.
CENTRES = {"image": 0.0, "report": 1.0}
# Smallest and largest ratio of height to width of the erased rectangles.
ERASED_ASPECTS = (0.3, 1 / 0.3)
_FLIP, _STROKES, _PEN = 3, 4, 5  # folded into an image's key, split into 0, 1, 2


class WarpParameters(NamedTuple):
    """Rotation, shift, shear and zoom of an image: radians, pixels and factors.

    Above 0, the digit turns counterclockwise, moves up and left (without rotation), and
    leans left. With a zoom above 1, it gets shorter or narrower.
    """

    angle: Float32[Array, ""]
    row_shift: Float32[Array, ""]
    column_shift: Float32[Array, ""]
    shear: Float32[Array, ""]
    row_zoom: Float32[Array, ""]
    column_zoom: Float32[Array, ""]


def create(config: Augment) -> Callable[..., Images] | None:
    """Build `augment(key, images, progress=0.0, labels=None) -> images`.

    It is None if all is off. Images are float32 in 0..1, and stay so. How an image is
    changed depends only on the key, on its position in the batch, with `fade` on
    `progress`, the share of the phase that is over, in 0..1, and with `strokes` on its
    label; without labels, no strokes are drawn.

    Raises:
        ConfigError: `erasing_area` or a number of `strokes` is out of range, or `name`
            is that of a function that cannot be imported.
    """
    if config.name != "standard":
        own = load_object(config.name, "--config.augment.name")(config)
        return lambda key, images, progress=0.0, labels=None: own(key, images, progress)
    smallest, largest = config.erasing_area
    if not 0 < smallest <= largest < 1:
        raise ConfigError(
            f"--config.augment.erasing_area={config.erasing_area}: must be two shares "
            "above 0 and below 1, the smaller first."
        )
    for index, stroke in enumerate(config.strokes):
        if not (np.isfinite(stroke).all() and 0 <= stroke[1] <= 1):
            raise ConfigError(
                f"--config.augment.strokes[{index}]={stroke}: all numbers must be "
                "finite, and the second, a probability, 0..1."
            )
    affine = config.rotation or config.shift or config.shear or config.zoom
    pen = config.thickness or config.contrast or config.blur
    others = config.flip or config.strokes or config.elastic or config.erasing
    if not (affine or pen or others):
        return None

    def augment_one(
        key: PRNGKeyArray, image: Image, label: Array | None, strength: Share
    ) -> Image:
        height, width, _ = image.shape
        # Always three keys, so that no transform changes what another draws. Calls of
        # jax.random are few since XLA takes half a second to compile each.
        warp_key, elastic_key, erasing_key = jax.random.split(key, 3)
        if config.flip:
            draw = jax.random.uniform(jax.random.fold_in(key, _FLIP))
            image = jnp.where(draw < strength * config.flip, jnp.flip(image, 1), image)
        if config.strokes and label is not None:
            stroke_key = jax.random.fold_in(key, _STROKES)
            image = pens.add_strokes(stroke_key, config, image, label, strength)
        if pen:
            pen_key = jax.random.fold_in(key, _PEN)
            image = pens.change_pen(pen_key, config, image, strength)
        if affine or config.elastic:
            parameters = draw_parameters(warp_key, config, (height, width), strength)
            off = CENTRES[config.centre] - 0.5
            matrix = affine_matrix(parameters, (height / 2 + off, width / 2 + off))
            displacements = None
            if config.elastic:
                displacements = strength * draw_displacements(
                    elastic_key, config, (height, width)
                )
            image = warp(image, matrix, displacements)
        if config.erasing:
            image = erase(erasing_key, config, image, strength)
        return image

    def augment(
        key: PRNGKeyArray,
        images: Images,
        progress: Share = 0.0,
        labels: Array | None = None,
    ) -> Images:
        indices = shards.indices(len(images))
        keys = jax.vmap(jax.random.fold_in, in_axes=(None, 0))(key, indices)
        strength = strength_at(progress, config.fade)
        each = jax.vmap(augment_one, in_axes=(0, 0, 0, None))
        return each(keys, images, labels, strength)

    return augment


def strength_at(progress: Share, fade: float) -> Share:
    """Return the strength of the changes, in 0..1, where `progress` of a phase is over.

    It is 1 until the last share `fade` of the phase, over which it falls linearly to 0.
    """
    if fade == 0:
        return 1.0
    return jnp.clip((1 - progress) / fade, 0, 1)


def draw_parameters(
    key: PRNGKeyArray, config: Augment, shape: tuple[int, int], strength: Share = 1.0
) -> WarpParameters:
    """Draw independently and uniformly, as ImageDataGenerator does.

    In `config`, `rotation` and `shear` are degrees to either side, `shift` is a share
    of the height and of the width to either side, and `zoom` goes from 1 - zoom to 1 +
    zoom. `strength` scales all of these. `shape` is the height and width of the image.
    """
    height, width = shape
    rotation, shear = math.radians(config.rotation), math.radians(config.shear)
    shifts = config.shift * height, config.shift * width
    limits = jnp.array([rotation, *shifts, shear, config.zoom, config.zoom])
    limits = strength * limits
    drawn = limits * jax.random.uniform(key, limits.shape, jnp.float32, -1, 1)
    middle = WarpParameters(*jnp.array([0.0, 0, 0, 0, 1, 1]))
    return jax.tree.map(jnp.add, middle, WarpParameters(*drawn))


def affine_matrix(
    parameters: WarpParameters,
    centre: tuple[float | Float32[Array, ""], float | Float32[Array, ""]],
) -> Float32[Array, "2 3"]:
    """Return the map from the result's (row, column, 1) to the image's (row, column).

    It is the product of Keras's rotation, shift, shear and zoom matrices, of which zoom
    is applied first, about `centre` (row, column).
    """
    angle, row_shift, column_shift, shear, row_zoom, column_zoom = parameters
    cos, sin = jnp.cos(angle), jnp.sin(angle)
    rows = jnp.cos(angle + shear) * row_zoom, sin * column_zoom
    columns = -jnp.sin(angle + shear) * row_zoom, cos * column_zoom
    shift = cos * row_shift + sin * column_shift, cos * column_shift - sin * row_shift
    # No matrix products here and in `warp`: accelerators round their operands.
    kept = [r * centre[0] + c * centre[1] for r, c in (rows, columns)]
    offset = [centre[axis] - kept[axis] + shift[axis] for axis in (0, 1)]
    return jnp.array([[*rows, offset[0]], [*columns, offset[1]]])


def warp(
    image: Image,
    matrix: Float32[Array, "2 3"],
    displacements: Float32[Array, "2 height width"] | None = None,
) -> Image:
    """Sample an image, in 0..1, at the places that an affine map gives.

    The displacements, of rows and columns in pixels, are added to these places.
    """
    rows = jnp.arange(image.shape[0], dtype=jnp.float32)[:, None]
    columns = jnp.arange(image.shape[1], dtype=jnp.float32)[None, :]
    places = [line[0] * rows + line[1] * columns + line[2] for line in matrix]
    if displacements is not None:
        places = [place + displacements[axis] for axis, place in enumerate(places)]

    def interpolate(channel: Array) -> Array:
        return map_coordinates(channel, places, order=1, mode="nearest")

    warped = jax.vmap(interpolate, in_axes=-1, out_axes=-1)(image)
    return jnp.clip(warped, 0, 1)  # rounding may make the weights' sum exceed 1


def draw_displacements(
    key: PRNGKeyArray, config: Augment, shape: tuple[int, int]
) -> Float32[Array, "2 height width"]:
    """Draw an elastic deformation: uniform noise, smoothed by a Gaussian and scaled.

    The scale is fixed, not normalised per image: some images are deformed more than
    others. The standard deviation over draws is the same at every pixel.

    In `config`, `elastic` and `elastic_smoothness` are the standard deviations of the
    displacements and of the Gaussian. `shape` is the height and width of the image.

    Returns:
        Independent displacements of rows and of columns, in pixels.

    References:
        Simard, Steinkraus, Platt, 2003, "Best practices for convolutional neural
        networks applied to visual document analysis":
        https://doi.org/10.1109/ICDAR.2003.1227801
    """
    # Drawn as a vector, which XLA compiles five times faster than the 3D shape.
    noise = jax.random.uniform(key, (2 * math.prod(shape),), jnp.float32, -1, 1)
    noise = noise.reshape(2, *shape)
    down, across = (_smoothing(size, config.elastic_smoothness) for size in shape)
    smooth = jnp.einsum("rh,ahw,cw->arc", down, noise, across)
    return config.elastic * math.sqrt(3) * smooth  # the noise has the variance 1/3


def erase(
    key: PRNGKeyArray, config: Augment, image: Image, strength: Share = 1.0
) -> Image:
    """Fill a random rectangle with uniform noise in 0..1, or leave the image as it is.

    The rectangle lies inside the image. Its area is drawn uniformly, then its ratio of
    height to width log-uniformly from those in `ERASED_ASPECTS` that fit (the paper's
    uniform draw favours tall rectangles). Its sides are rounded to whole pixels.

    In `config`, `erasing` is the probability, which `strength` scales, and
    `erasing_area` the smallest and largest area of the rectangle as shares of the
    image's.

    References:
        Zhong, Zheng, Kang, Li, Yang, 2017: https://arxiv.org/abs/1708.04896
    """
    height, width, _ = image.shape
    # A vector, as in `draw_displacements`.
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
    erased = (on < strength * config.erasing) & inside
    return jnp.where(erased, drawn[5:].reshape(image.shape), image)


def _smoothing(size: int, deviation: float) -> Float32[np.ndarray, "size size"]:
    """Return a Gaussian filter as a matrix that preserves the variance of white noise.

    Its rows have the Euclidean norm 1, those cut off at the edges too.
    """
    distances = np.subtract.outer(np.arange(size), np.arange(size)) / deviation
    weights = np.exp(-(distances**2) / 2)
    norms = np.linalg.norm(weights, axis=1, keepdims=True)
    return (weights / norms).astype(np.float32)
