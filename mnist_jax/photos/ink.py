"""The ink in a photograph, apart from the light and the lines of the paper."""

import numpy as np
from jaxtyping import Float
from PIL import Image
from scipy import ndimage

from mnist_jax.data.raster import PhotoError
from mnist_jax.photos import pictures, ruling

# Light is estimated on a picture of this side. What is darker by so much than the mean
# of a window, a part of that side, and than the picture closed with that window, is a
# stroke: a shadow is wider, or not as dark.
_LIGHT_SIDE, _LIGHT_WINDOW, _DARKER = 128, 0.4, 0.2
# Whether ink is dark or bright is judged by how it differs from the median of a window,
# a part of the side of a picture this large.
_GROUND_SIDE, _GROUND_WINDOW = 64, 0.3
# What differs less from the paper is no ink, nor is what is lost in so much noise.
_LEAST_CONTRAST, _NOISE = 0.1, 5.0
# Ink is what has this part of the darkest strokes' contrast.
_INK = 0.4
# More than this part of the picture in ink is a dark picture, not writing on paper.
_MOST_INK = 0.5
_FEWEST_PIXELS = 20  # of ink
# Width of strokes in a box of 20 pixels: thinner ones than the first are widened to the
# second.
_THIN, _WIDENED = 1.6, 2.2


def flatten(grey: Float[np.ndarray, "H W"]) -> Float[np.ndarray, "H W"]:
    """Return by how much less light than the paper around it each pixel has, in 0..1.

    If the digits are brighter than their ground, both are exchanged first.
    """
    if _is_dark_ground(grey):
        grey = 1 - grey
    light = _light_of(pictures.shrink(grey, _LIGHT_SIDE))
    light = pictures.resize(light, grey.shape, Image.Resampling.BICUBIC)
    return (1 - grey / np.maximum(light, 0.05)).clip(0, 1)


def _light_of(small: Float[np.ndarray, "h w"]) -> Float[np.ndarray, "h w"]:
    """Return the brightness of the paper everywhere, under the strokes too."""
    window = round(_LIGHT_WINDOW * max(small.shape))
    around = ndimage.uniform_filter(small, window, mode="nearest")
    # Closing removes strokes, but leaves shadows with their edges, however sharp.
    closed = ndimage.grey_closing(small, window, mode="nearest")
    stroke = ndimage.binary_dilation(small < (1 - _DARKER) * np.minimum(around, closed))
    paper = np.where(stroke, 0, small)
    light, weight = np.float32(0), np.float32(0)
    # The mean of the paper nearby, and from further away if none is near. A small
    # picture shows little more than a digit: a narrow mean would be within its strokes.
    near = 0.03 if max(small.shape) == _LIGHT_SIDE else 0.2
    for sigma, share in ((near, 1), (0.1, 1e-2), (0.5, 1e-4)):
        blur = sigma * max(small.shape)
        light += share * ndimage.gaussian_filter(paper, blur, mode="nearest")
        known = np.where(stroke, np.float32(0), np.float32(1))
        weight += share * ndimage.gaussian_filter(known, blur, mode="nearest")
    light = light / np.maximum(weight, 1e-6)
    return np.minimum(light, closed).astype(np.float32)


def _is_dark_ground(grey: Float[np.ndarray, "H W"]) -> bool:
    """Return whether ink is brighter than its ground, by the sign of the third moment.

    Ink is rare and differs strongly from the ground around it, in light and in shadow.
    """
    small = pictures.shrink(grey, _GROUND_SIDE)
    window = round(_GROUND_WINDOW * max(small.shape))
    ground = ndimage.median_filter(small, window, mode="nearest")
    ground = pictures.resize(ground, grey.shape, Image.Resampling.BICUBIC)
    return bool(np.mean((grey - ground) ** 3) > 0)


def find_ink(contrast: Float[np.ndarray, "H W"]) -> Float[np.ndarray, "H W"]:
    """Return how much ink each pixel has, in 0..1, without the lines of the paper.

    Raises:
        PhotoError: there is no ink, or almost nothing but ink.
    """
    middle = np.median(contrast)
    noise = 1.4826 * np.median(np.abs(contrast - middle))
    floor = max(_LEAST_CONTRAST, middle + _NOISE * noise)
    visible = contrast > floor
    lines = ruling.find(visible)
    near_lines = np.asarray(ndimage.binary_dilation(lines, np.ones((3, 3)), 2), bool)
    strokes = contrast[visible & ~near_lines]
    if strokes.size < _FEWEST_PIXELS:
        raise PhotoError("has no digit in it: there is no ink on the paper")
    full = np.quantile(strokes, 0.8)
    threshold = max(floor, _INK * full)
    if lines.any():  # between the lines and the strokes, if they differ
        threshold = max(threshold, min(1.3 * np.median(contrast[lines]), 0.7 * full))
    mask = (contrast > threshold) & ~lines
    if mask.mean() > _MOST_INK:
        raise PhotoError("is nearly all ink: leave some paper around the digits")
    # The soft edges of strokes, which make digits smooth when they shrink.
    edge = np.asarray(ndimage.binary_dilation(mask), bool) & ~(lines | mask)
    soft = (contrast / full).clip(0, 1)
    return np.where(mask | edge, soft, 0).astype(np.float32)


def widen_thin_strokes(ink: Float[np.ndarray, "h w"]) -> Float[np.ndarray, "H W"]:
    """Widen strokes that would fade when the digit shrinks to 20 pixels."""
    pixel = max(ink.shape) / 20
    padded = np.pad(ink, round(_WIDENED * pixel) + 1)
    mask = padded > 0.5
    if not mask.any():
        return ink
    # The mean distance of a stroke's pixels to its edge is a quarter of its width.
    inside = np.asarray(ndimage.distance_transform_edt(mask))
    width = 4 * inside[mask].mean() - 1
    if width >= _THIN * pixel:
        return ink
    radius = (_WIDENED * pixel - width) / 2
    outside = np.asarray(ndimage.distance_transform_edt(~mask))
    return np.maximum((radius + 1 - outside).clip(0, 1), padded)
