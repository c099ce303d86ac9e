"""The sheet of paper in a photograph that shows what is around it, too."""

import numpy as np
from jaxtyping import Bool, Float
from PIL import Image
from scipy import ndimage

# The sheet is sought on a picture of this side; smaller pictures are no photographs.
_SIDE = 256
# It differs in brightness by so much from what is around it, and in a shadow still by
# this part of that; it covers this part of the picture at least, and no more than that
# part of its border.
_LEAST_CONTRAST, _IN_SHADOW = 0.15, 0.3
_LEAST_AREA, _MOST_BORDER = 0.2, 0.2
# It fills this part of a rectangle, turned by up to 10 degrees.
_FILLED = 0.88
_TILTS = np.radians(range(-10, 11, 2))


def extend(grey: Float[np.ndarray, "H W"]) -> Float[np.ndarray, "H W"] | None:
    """Continue a sheet over what is around it; return None if there is no sheet.

    Each pixel outside has the brightness of the nearest one of the sheet.
    """
    sheet = _find(grey)
    if sheet is None:
        return None
    nearest = ndimage.distance_transform_edt(
        ~sheet, return_distances=False, return_indices=True
    )
    rows, columns = np.asarray(nearest)
    return grey[rows, columns]


def _find(grey: Float[np.ndarray, "H W"]) -> Bool[np.ndarray, "H W"] | None:
    """Return which pixels belong to a sheet that others surround, if there is one."""
    factor = max(grey.shape) / _SIDE
    if factor <= 1:
        return None
    height, width = (max(8, round(side / factor)) for side in grey.shape)
    small = Image.fromarray(grey).resize((width, height), Image.Resampling.BOX)
    small = ndimage.median_filter(np.asarray(small), 3, mode="nearest")
    border = np.ones(small.shape, bool)
    border[1:-1, 1:-1] = False
    inner = small[height // 4 : -(height // 4), width // 4 : -(width // 4)]
    around, middle = np.median(small[border]), np.median(inner)
    if abs(middle - around) < _LEAST_CONTRAST:
        return None
    threshold = around + _IN_SHADOW * (middle - around)
    labels = np.zeros(small.shape, np.int32)
    ndimage.label((small > threshold) == (middle > threshold), output=labels)
    counts = np.bincount(labels.ravel())
    counts[0] = 0
    sheet = labels == counts.argmax()
    if sheet.mean() < _LEAST_AREA or sheet[border].mean() > _MOST_BORDER:
        return None
    sheet = np.asarray(ndimage.binary_fill_holes(sheet))  # with what is written on it
    if _filled(sheet) < _FILLED:
        return None
    # At its edge, pixels are neither sheet nor surroundings.
    inside = ndimage.binary_erosion(sheet, iterations=3)
    if not inside.any():
        return None
    enlarged = Image.fromarray(inside).resize(
        (grey.shape[1], grey.shape[0]), Image.Resampling.NEAREST
    )
    return np.asarray(enlarged)


def _filled(shape: Bool[np.ndarray, "h w"]) -> float:
    """Return which part of the smallest rectangle around it a shape fills."""
    rows, columns = np.nonzero(shape)
    areas = [
        np.ptp(np.cos(tilt) * rows + np.sin(tilt) * columns)
        * np.ptp(np.cos(tilt) * columns - np.sin(tilt) * rows)
        for tilt in _TILTS
    ]
    return rows.size / min(areas)
