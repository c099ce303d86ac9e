"""The printed lines of ruled and squared paper, which differ from strokes in shape.

A line runs straight through most of the picture, nearly horizontal or nearly vertical,
and is thin. Where a stroke crosses it, the ink is thicker than the line, and stays.
"""

import numpy as np
from jaxtyping import Bool, Int
from scipy import ndimage

from mnist_jax.photos.pictures import TILTS

# A line is divided into this many parts, of which it may miss two.
_PARTS = 10
# Of a line: the part of its length in the picture in which it is to be seen at least,
# the rest being under strokes; its greatest thickness, as a share of the picture's
# extent in its direction; and its greatest slope.
_COVERED, _THICKNESS, _SLOPE = 0.3, 1 / 50, np.tan(TILTS.max())
# The shortest piece of a line in a corner of the picture, as a share of that extent.
_SHORTEST = 0.25
# Enough pixels to find the slope from.
_ENOUGH = 10_000
# Ink that is this many times as thick as a line is a stroke.
_STROKE = 1.6


def find(ink: Bool[np.ndarray, "H W"]) -> Bool[np.ndarray, "H W"]:
    """Return which pixels of ink belong to printed lines and to nothing else."""
    horizontal = _find_horizontal(ink)
    # Without these, a crossing of two lines is as thin as the vertical one.
    vertical = _find_horizontal((ink & ~horizontal).T).T
    return horizontal | vertical


def _find_horizontal(ink: Bool[np.ndarray, "H W"]) -> Bool[np.ndarray, "H W"]:
    found = np.zeros_like(ink)
    height, width = ink.shape
    most = max(4, round(width * _THICKNESS))
    runs = _vertical_runs(ink)
    thin = ink & (runs <= _STROKE * most)
    if not thin.any():
        return found
    # The picture sheared so that lines are level, and which pixels are in the picture.
    # A tilted line may leave it through its upper or lower edge.
    columns = np.arange(width)
    down = np.rint(_slope(thin) * (columns - width / 2)).astype(np.int64)
    rows = np.arange(-width // 8, height + width // 8)[:, None] + down
    inside = (rows >= 0) & (rows < height)
    rows = rows.clip(0, height - 1)
    level = thin[rows, columns] & inside
    # A line that is not quite level covers parts of neighbouring rows.
    counts = np.convolve(level.sum(axis=1), np.ones(3), "same")
    lengths = inside.sum(axis=1)
    covered = np.where(lengths >= _SHORTEST * width, counts / np.maximum(lengths, 1), 0)
    highest = ndimage.maximum_filter1d(covered, 2 * most + 1)
    for centre in np.flatnonzero((covered >= _COVERED) & (covered == highest)):
        near = slice(max(centre - 2, 0), centre + 3)
        has_ink = (ink[rows[near], columns] & inside[near]).any(axis=0)
        parts = np.array_split(has_ink[inside[centre]], _PARTS)
        seen = [2 * part.sum() > part.size for part in parts]
        if not (seen[0] and seen[-1] and sum(seen) >= _PARTS - 2):
            continue
        # Strokes along the line, or across it, are thicker, and cover less of it.
        near = slice(max(centre - 1, 0), centre + 2)
        thickness = np.quantile(runs[rows[near], columns][level[near]], 0.25)
        if thickness > most:
            continue
        reach = int(thickness / 2 + 2)
        near = slice(max(centre - reach, 0), centre + reach + 1)
        is_line = runs[rows[near], columns] <= max(_STROKE * thickness, thickness + 1)
        which, where = np.nonzero(level[near] & is_line)
        found[rows[near][which, where], where] = True
    return found


def _slope(thin: Bool[np.ndarray, "H W"]) -> float:
    """Return the slope whose lines, few of them, hold most of the pixels."""
    width = thin.shape[1]
    rows, columns = np.nonzero(thin)
    some = slice(None, None, 1 + rows.size // _ENOUGH)

    def sharpness(slope: float) -> int:
        level = np.rint(rows[some] - slope * (columns[some] - width / 2))
        return int(np.square(np.bincount(level.astype(np.int64) + width)).sum())

    # Over half the width, the next slope is half a pixel away.
    return max(np.arange(-_SLOPE, _SLOPE, 1 / width), key=sharpness)


def _vertical_runs(ink: Bool[np.ndarray, "H W"]) -> Int[np.ndarray, "H W"]:
    """Return the length of the run of ink around each pixel, in its column."""
    labels = np.zeros(ink.shape, np.int32)
    ndimage.label(ink, [[0, 1, 0]] * 3, output=labels)
    return np.bincount(labels.ravel())[labels]
