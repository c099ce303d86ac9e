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
_COVERED = 0.3
_THICKNESS = 1 / 50
_SLOPE = np.tan(TILTS.max())
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
    all_rows, all_columns = np.nonzero(ink)
    is_thin = runs[all_rows, all_columns] <= _STROKE * most
    rows, columns = all_rows[is_thin], all_columns[is_thin]
    if not rows.size:
        return found
    # Over half the width, the next slope is half a pixel away.
    slopes = np.arange(-_SLOPE, _SLOPE, 1 / width)
    some = slice(None, None, 1 + rows.size // _ENOUGH)
    slope = max(
        slopes, key=lambda each: _sharpness(rows[some], columns[some], each, ink.shape)
    )
    level = _level(rows, columns, slope, width)
    level_of_all = _level(all_rows, all_columns, slope, width)
    inside = _columns_inside(slope, ink.shape)
    # A line that is not quite level covers parts of neighbouring rows.
    counts = np.convolve(np.bincount(level, minlength=len(inside)), np.ones(3), "same")
    lengths = inside[:, 1] - inside[:, 0]
    covered = np.where(lengths >= _SHORTEST * width, counts / np.maximum(lengths, 1), 0)
    highest = ndimage.maximum_filter1d(covered, 2 * most + 1)
    runs = runs[rows, columns]
    for centre in np.flatnonzero((covered >= _COVERED) & (covered == highest)):
        near = np.abs(level_of_all - centre) <= 2
        if not _goes_through(all_columns[near], *inside[centre]):
            continue
        # Strokes along the line, or across it, are thicker, and cover less of it.
        thickness = np.quantile(runs[np.abs(level - centre) <= 1], 0.25)
        if thickness > most:
            continue
        on_line = np.abs(level - centre) <= thickness / 2 + 2
        on_line &= runs <= max(_STROKE * thickness, thickness + 1)
        found[rows[on_line], columns[on_line]] = True
    return found


def _goes_through(columns: Int[np.ndarray, " n"], first: int, end: int) -> bool:
    """Return whether ink covers both ends of a line and nearly all between.

    The line goes from the column `first` of the picture to `end`, excluded; `columns`
    have ink on it.
    """
    has_ink = np.zeros(end, bool)
    has_ink[columns[columns < end]] = True
    parts = np.array_split(has_ink[first:], _PARTS)
    covered = [2 * part.sum() > part.size for part in parts]
    return bool(covered[0] and covered[-1] and sum(covered) >= _PARTS - 2)


def _columns_inside(
    slope: float, shape: tuple[int, ...]
) -> Int[np.ndarray, "levels 2"]:
    """Return the first column of each level's line, and the one after its last.

    A tilted line may leave the picture through its upper or lower edge.
    """
    height, width = shape
    rows = np.arange(height + width) - width // 2  # in the middle column
    # Where the line meets the upper and the lower edge.
    down = np.stack([-0.5 - rows, height - 0.5 - rows])
    at_edges = width / 2 + down / (slope or 1e-9)
    first, last = np.sort(at_edges, axis=0).clip(0, width)
    return np.stack([np.ceil(first), np.ceil(last)], axis=1).astype(np.int64)


def _level(
    rows: Int[np.ndarray, " n"],
    columns: Int[np.ndarray, " n"],
    slope: float,
    width: int,
) -> Int[np.ndarray, " n"]:
    """Return the row, from 0, at which a line through each pixel meets the middle."""
    levels = np.rint(rows - slope * (columns - width / 2)).astype(np.int64)
    return levels + width // 2


def _sharpness(
    rows: Int[np.ndarray, " n"],
    columns: Int[np.ndarray, " n"],
    slope: float,
    shape: tuple[int, ...],
) -> float:
    """Return how much ink of the picture is on few lines of that slope."""
    level = _level(rows, columns, slope, shape[1])
    return float(np.square(np.bincount(level, minlength=sum(shape))).sum())


def _vertical_runs(ink: Bool[np.ndarray, "H W"]) -> Int[np.ndarray, "H W"]:
    """Return the length of the run of ink around each pixel, in its column."""
    vertical = np.zeros((3, 3), bool)
    vertical[:, 1] = True
    labels = np.zeros(ink.shape, np.int32)
    ndimage.label(ink, vertical, output=labels)
    return np.bincount(labels.ravel())[labels]
