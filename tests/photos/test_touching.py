"""Laws of digits that touch: cut where little ink is, divided as well as can be."""

import itertools
import math

import numpy as np
import pytest

from mnist_jax.photos import touching


def blots(*centres, radius=20, height=50, width=200, bridge=4):
    """Discs side by side, joined by a thin bar."""
    rows, columns = np.indices((height, width))
    ink = np.zeros((height, width), np.float32)
    for centre in centres:
        ink[(rows - height // 2) ** 2 + (columns - centre) ** 2 <= radius**2] = 1
    middle = slice(height // 2 - bridge // 2, height // 2 + bridge // 2)
    ink[middle, centres[0] : centres[-1]] = 1
    used = np.flatnonzero(ink.any(axis=0))
    return ink[:, used[0] : used[-1] + 1], used[0]


def test_ink_is_cut_where_there_is_least():
    ink, left = blots(30, 80, 130)
    cuts = touching.find_cuts(ink)
    assert cuts[0] == 0 and cuts[-1] == ink.shape[1] and cuts == sorted(set(cuts))
    for between in (55 - left, 105 - left):
        assert min(abs(cut - between) for cut in cuts) <= 3


def test_pieces_are_columns_of_the_ink():
    ink, _ = blots(30, 80)
    pieces = touching.find_pieces(ink)
    assert pieces
    for (first, end), piece in pieces.items():
        np.testing.assert_array_equal(piece, ink[:, first:end])


@pytest.mark.parametrize("seed", range(20))
def test_no_division_is_more_probable_than_the_best(seed):
    """Compared with every way to put pieces side by side."""
    rng = np.random.default_rng(seed)
    cuts = [0, *np.sort(rng.choice(np.arange(1, 50), 4, replace=False)), 50]
    pieces = [pair for pair in itertools.combinations(cuts, 2) if rng.random() < 0.7]
    probabilities = {pair: rng.uniform(0.1, 1) for pair in pieces}
    found = touching.best_division(probabilities, 50)

    ways = []
    for count in range(len(cuts) - 1):
        for inner in itertools.combinations(cuts[1:-1], count):
            way = list(itertools.pairwise([0, *inner, 50]))
            if all(pair in probabilities for pair in way):
                ways.append(math.prod(probabilities[pair] for pair in way))
    if ways:
        assert [first for first, _ in found] == [0, *(end for _, end in found[:-1])]
        assert math.prod(probabilities[p] for p in found) == pytest.approx(max(ways))
    else:
        assert found == []
