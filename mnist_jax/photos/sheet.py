"""The sheet of paper in a photograph that shows what is around it, too."""

import numpy as np
from jaxtyping import Bool, Float
from PIL import Image
from scipy import ndimage

from mnist_jax.photos import pictures

# The sheet is sought on a picture of this side; smaller ones are not photographs.
_SIDE = 256
# The least difference in brightness between the sheet and its surroundings, and the
# part of that difference which a shadow on the sheet leaves.
_LEAST_CONTRAST, _IN_SHADOW = 0.15, 0.3
# The least part of the picture that it covers, and the largest part of the border.
_LEAST_AREA, _MOST_BORDER = 0.2, 0.2
# The least part that it fills of the rectangle around it.
_FILLED = 0.88


def extend(grey: Float[np.ndarray, "H W"]) -> Float[np.ndarray, "H W"]:
    """Extend a sheet of paper over its surroundings, if there is one.

    Each pixel outside takes the brightness of the nearest one on the sheet.
    """
    if max(grey.shape) <= _SIDE:
        return grey
    small = pictures.shrink(grey, _SIDE)
    height, width = small.shape
    border = np.ones(small.shape, bool)
    border[1:-1, 1:-1] = False
    inner = small[height // 4 : -(height // 4), width // 4 : -(width // 4)]
    around, middle = np.median(small[border]), np.median(inner)
    if abs(middle - around) < _LEAST_CONTRAST:
        return grey
    threshold = around + _IN_SHADOW * (middle - around)
    labels = np.zeros(small.shape, np.int32)
    ndimage.label((small > threshold) == (middle > threshold), output=labels)
    largest = np.bincount(labels[labels > 0]).argmax()
    sheet = np.asarray(ndimage.binary_fill_holes(labels == largest))  # and the writing
    # At its edge, pixels are neither sheet nor surroundings.
    inside = np.asarray(ndimage.binary_erosion(sheet, iterations=3))
    if (
        inside.mean() < _LEAST_AREA
        or sheet[border].mean() > _MOST_BORDER
        or _filled(sheet) < _FILLED
    ):
        return grey
    inside = pictures.resize(inside, grey.shape, Image.Resampling.NEAREST)
    nearest = ndimage.distance_transform_edt(
        ~inside, return_distances=False, return_indices=True
    )
    rows, columns = np.asarray(nearest)
    return grey[rows, columns]


def _filled(shape: Bool[np.ndarray, "h w"]) -> float:
    """Return the share of the smallest rectangle around a shape that it fills."""
    rows, columns = np.nonzero(shape)
    areas = [
        np.ptp(np.cos(tilt) * rows + np.sin(tilt) * columns)
        * np.ptp(np.cos(tilt) * columns - np.sin(tilt) * rows)
        for tilt in pictures.TILTS
    ]
    return rows.size / min(areas)
