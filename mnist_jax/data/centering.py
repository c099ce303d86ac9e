"""Preparation of images of digits, as MNIST's were prepared.

MNIST's digits were scaled to fit a box of 20x20 pixels, with anti-aliasing, and placed
in 28x28 by their centre of mass: http://yann.lecun.com/exdb/mnist/.
"""

import math

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image

_BOX = 20
_SIDE = 28
_CENTRE = 14


def center_in_28x28(ink: Float[np.ndarray, "H W"]) -> UInt8[np.ndarray, "28 28"]:
    """Scale and place a digit as in MNIST.

    The bounding box of the ink is scaled, keeping its aspect ratio, until its longer
    side is 20 pixels. It is placed so that the digit's centre of mass is in
    13.5 <= x < 14.5 in both directions, counted from 0, or as near to that as it can be
    without cutting off ink.

    Args:
        ink: 0 (paper) to 1 (full ink). The paper must be clean: whatever would be
            visible in 256 levels of grey counts as ink.

    Returns:
        0 (paper) to 255 (full ink).

    Raises:
        ValueError: `ink` is not such an image, or there is no ink in it.
    """
    if ink.ndim != 2 or not np.all((ink >= 0) & (ink <= 1)):
        raise ValueError("ink must be an array [height, width] of values in 0..1")
    visible = ink >= 0.5 / 255  # what rounds to a level of grey above 0
    rows, columns = (np.flatnonzero(visible.any(axis=axis)) for axis in (1, 0))
    if not rows.size:
        raise ValueError("there is no ink in the image")
    box = ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]

    scale = _BOX / max(box.shape)
    height, width = (max(1, round(side * scale)) for side in box.shape)
    # Pillow widens the filter as it shrinks: no aliasing. Bicubic overshoots a little.
    resized = np.asarray(
        Image.fromarray(box.astype(np.float32)).resize(
            (width, height), Image.Resampling.BICUBIC
        )
    )
    digit = np.rint(255 * resized.clip(0, 1)).astype(np.uint8)

    image = np.zeros((_SIDE, _SIDE), np.uint8)
    top, left = (_offset(digit.sum(axis=axis, dtype=np.int64)) for axis in (1, 0))
    image[top : top + height, left : left + width] = digit
    return image


def _offset(mass: np.ndarray) -> int:
    """Return where a profile of ink has to start for its centre of mass to be at 14."""
    centre = np.average(np.arange(len(mass)), weights=mass)
    return min(max(math.ceil(_CENTRE - 0.5 - centre), 0), _SIDE - len(mass))
