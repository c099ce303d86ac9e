"""The placing of a digit in its image, the way MNIST was made.

Its digits were scaled to fit a box of 20x20 pixels, keeping their aspect ratio, with
anti-aliasing, and placed in 28x28 by their centre of mass: see
http://yann.lecun.com/exdb/mnist/. Whatever else is to be recognised, the embedded
digits or a photograph, goes through the same steps.
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

    The box around the ink is scaled, keeping its aspect ratio, so that its longer side
    is 20 pixels, and placed so that the centre of mass of the result rounds to pixel
    (14, 14), counted from 0: it lies in 13.5 <= x < 14.5 in both directions. Ink is
    never cut off: where the mass lies so far to one side that the digit would reach
    over the edge, it stops there.

    Args:
        ink: 0 (paper) to 1 (full ink), of any size. Paper must be clean: all that would
            show in 256 levels of grey counts as ink.

    Returns:
        0 (paper) to 255 (full ink).

    Raises:
        ValueError: `ink` is not such an image, or there is no ink in it.
    """
    if ink.ndim != 2 or not np.all((ink >= 0) & (ink <= 1)):
        raise ValueError("ink must be an array [height, width] of values in 0..1")
    # Half a level of grey is what would round to one.
    visible = ink >= 0.5 / 255
    rows, columns = (np.flatnonzero(visible.any(axis=axis)) for axis in (1, 0))
    if not rows.size:
        raise ValueError("there is no ink in the image")
    box = ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]

    # The shorter side of a thin stroke keeps at least one pixel.
    scale = _BOX / max(box.shape)
    height, width = (max(1, round(side * scale)) for side in box.shape)
    # Pillow widens the filter when it shrinks: no aliasing. The cubic overshoots a bit.
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
    """Return where a profile of ink must begin for its centre of mass to be centred."""
    centre = np.average(np.arange(len(mass)), weights=mass)
    return min(max(math.ceil(_CENTRE - 0.5 - centre), 0), _SIDE - len(mass))
