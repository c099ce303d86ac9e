"""Whether two networks differ by more than chance.

McNemar's test compares two trained networks on one set of images. Welch's t test
compares two ways to train over their seeds; one run of each cannot answer that.
"""

import math
import statistics
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool

LEVEL = 0.05
"""A difference counts if its corrected p-value is below this."""


class Difference(NamedTuple):
    """The difference between two means, the first less the second."""

    mean: float
    interval: tuple[float, float]
    """95 % confidence interval."""
    p: float
    """Two-sided p-value of no difference."""


class McNemar(NamedTuple):
    """How the predictions of two networks for the same images differ."""

    only_first: int
    """Images that only the first gets right."""
    only_second: int
    """Images that only the second gets right."""
    p: float
    """Two-sided p-value of both being equally good."""


def mcnemar(first: Bool[np.ndarray, " n"], second: Bool[np.ndarray, " n"]) -> McNemar:
    """Test two networks on one set of images: McNemar's exact test.

    Only images count on which one is right and the other wrong. If both networks are
    equally good, either is the right one with probability 1/2.

    Args:
        first: whether the first network is right, image by image.
        second: whether the second is, on the same images.

    References:
        McNemar, "Note on the sampling error of the difference between correlated
        proportions or percentages", Psychometrika 12, 1947.
    """
    from scipy import special

    only_first, only_second = int((first & ~second).sum()), int((second & ~first).sum())
    fewer, total = min(only_first, only_second), only_first + only_second
    tail = float(special.bdtr(fewer, total, 0.5))
    return McNemar(only_first, only_second, min(1.0, 2 * tail))


def welch(first: Sequence[float], second: Sequence[float]) -> Difference | None:
    """Compare two means by Welch's t test, which allows for unequal variances.

    The result is None with fewer than two values on a side, or if neither varies.

    References:
        Welch, "The generalization of 'Student's' problem when several different
        population variances are involved", Biometrika 34, 1947.
    """
    from scipy import special

    if min(len(first), len(second)) < 2:
        return None
    parts = [statistics.variance(v) / len(v) for v in (first, second)]
    if not sum(parts):
        return None
    freedom = sum(parts) ** 2 / sum(
        part**2 / (len(values) - 1)
        for part, values in zip(parts, (first, second), strict=True)
    )
    error = math.sqrt(sum(parts))
    mean = statistics.mean(first) - statistics.mean(second)
    half = float(special.stdtrit(freedom, 0.975)) * error
    p = 2 * float(special.stdtr(freedom, -abs(mean) / error))
    return Difference(mean, (mean - half, mean + half), p)


def holm(p_values: Sequence[float]) -> list[float]:
    """Correct p-values for their number, in the given order.

    If every corrected value below a level counts as a finding, the probability of any
    false finding is at most that level, however the tests depend on each other.

    References:
        Holm, "A simple sequentially rejective multiple test procedure", Scandinavian
        Journal of Statistics 6, 1979.
    """
    corrected = [0.0] * len(p_values)
    largest = 0.0
    ascending = sorted(range(len(p_values)), key=lambda place: p_values[place])
    for rank, place in enumerate(ascending):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[place]))
        corrected[place] = largest
    return corrected
