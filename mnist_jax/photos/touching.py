"""Digits that touch each other: the ways to divide their common ink.

The ink is cut wherever little of it is in a column, more often than necessary, and a
network chooses among the pieces: heuristic over-segmentation, as in LeCun et al.,
"Gradient-based learning applied to document recognition" (1998).
"""

import itertools
import math
from collections.abc import Mapping

import numpy as np
from jaxtyping import Float
from scipy import ndimage

# All as multiples of the ink's height. Narrower ink is one digit, wider ink is several.
_NARROW, _WIDE = 0.9, 1.7
# Limits to the width of a piece, and the least height of one.
_NARROWEST_PIECE, _WIDEST_PIECE, _LEAST_HEIGHT = 0.12, 1.1, 0.7
# The most ink that a cut may cross, the least distance between cuts, and the width of
# the filter that smooths the ink per column.
_MOST_CUT, _APART, _SMOOTH = 0.35, 0.1, 0.02
_MOST_CUTS = 12


def is_wide(ink: Float[np.ndarray, "h w"]) -> bool:
    """Return whether ink is too wide for a single digit."""
    return ink.shape[1] > _WIDE * ink.shape[0]


def find_cuts(ink: Float[np.ndarray, "h w"]) -> list[int]:
    """Return the columns where the ink may be cut, between 0 and its width."""
    height, width = ink.shape
    profile = ndimage.gaussian_filter1d(ink.sum(axis=0), _SMOOTH * height)
    cuts: list[int] = []
    for column in np.argsort(profile, kind="stable"):
        if profile[column] > _MOST_CUT * height or len(cuts) == _MOST_CUTS:
            break
        away = [abs(column - other) for other in (0, width, *cuts)]
        if min(away) >= _APART * height:
            cuts.append(int(column))
    return [0, *sorted(cuts), width]


def find_pieces(
    ink: Float[np.ndarray, "h w"],
) -> dict[tuple[int, int], Float[np.ndarray, "h piece"]]:
    """Return what may be a digit, by its first column and the one after its last."""
    height, width = ink.shape
    found = {}
    if width < _NARROW * height:
        return found
    for left, right in itertools.combinations(find_cuts(ink), 2):
        piece = ink[:, left:right]
        rows = np.flatnonzero((piece > 0.5).any(axis=1))
        if (
            right - left < width
            and _NARROWEST_PIECE * height <= right - left <= _WIDEST_PIECE * height
            and rows.size
            and rows[-1] + 1 - rows[0] >= _LEAST_HEIGHT * height
        ):
            found[left, right] = piece
    return found


def best_division(
    probabilities: Mapping[tuple[int, int], float], width: int
) -> list[tuple[int, int]]:
    """Return the pieces that make up the whole with the greatest joint probability.

    Args:
        probabilities: of the most probable digit, for each piece of `find_pieces`.
        width: of all ink.

    Returns:
        From left to right; empty if no pieces add up to the whole.
    """
    best: dict[int, tuple[float, list[tuple[int, int]]]] = {0: (0.0, [])}
    for (left, right), probability in sorted(probabilities.items()):
        if left in best:
            score = best[left][0] + math.log(max(probability, 1e-9))
            if right not in best or score > best[right][0]:
                best[right] = score, [*best[left][1], (left, right)]
    return best.get(width, (0.0, []))[1]
