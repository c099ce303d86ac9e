"""Image files of any kind, as upright grey pictures of a workable size."""

import os
from typing import Any

import numpy as np
from jaxtyping import Float
from PIL import Image, ImageOps
from scipy import ndimage

from mnist_jax.data import raster
from mnist_jax.data.raster import PhotoError

# Pixels of the longer side that a picture is shrunk to. A digit of a fortieth of a page
# still has 35 pixels then.
_WORKING_SIDE = 1400
_LEAST_SIDE = 8
TILTS = np.radians([0, -2, 2, -4, 4, -6, 6, -8, 8, -10, 10])
"""How paper may be turned in a photograph, the most upright first."""


def read(source: Any) -> tuple[Float[np.ndarray, "H W"], float]:
    """Read a picture as brightness, upright and opaque.

    Args:
        source: a path, a file opened to read bytes, a Pillow image, or an array
            [height, width] or [height, width, 3 or 4], uint8 or floating-point in 0..1.

    Returns:
        Brightness in 0 (black) to 1 (white), at most 1,400 pixels on the longer side,
        and how many pixels of the upright picture one of its pixels is wide.

    Raises:
        PhotoError: it is not an image, too large or too small, damaged or animated.
        OSError: the file cannot be read.
    """
    if not isinstance(source, (str, os.PathLike, Image.Image)) and not hasattr(
        source, "read"
    ):
        source = raster.from_array(np.asarray(source))
    with raster.open_image(source) as image:
        if min(image.size) < _LEAST_SIDE:
            raise PhotoError(
                f"has {image.width}x{image.height} pixels: too small to hold a digit"
            )
        longer = max(image.size)
        if image.format == "JPEG":  # decodes less, as long as more than enough is left
            image.draft("L", (2 * _WORKING_SIDE, 2 * _WORKING_SIDE))
        upright = raster.to_grey(ImageOps.exif_transpose(image))
    if max(upright.size) > _WORKING_SIDE:
        upright.thumbnail((_WORKING_SIDE, _WORKING_SIDE), Image.Resampling.BOX)
    grey = np.asarray(upright, np.float32) / (255 if upright.mode == "L" else 1)
    return grey, longer / max(upright.size)


def shrink(grey: Float[np.ndarray, "H W"], side: int) -> Float[np.ndarray, "h w"]:
    """Return a picture whose longer side is `side` at most, without specks."""
    factor = max(1, max(grey.shape) / side)
    shape = tuple(max(8, round(length / factor)) for length in grey.shape)
    small = resize(grey, shape, Image.Resampling.BOX)
    return ndimage.median_filter(small, 3, mode="nearest")


def resize(
    picture: np.ndarray, shape: tuple[int, ...], resampling: Image.Resampling
) -> np.ndarray:
    """Return a picture with another number of rows and columns."""
    height, width = shape
    return np.asarray(Image.fromarray(picture).resize((width, height), resampling))
