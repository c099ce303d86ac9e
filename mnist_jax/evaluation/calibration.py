"""Whether a network's probabilities can be taken at their word.

A network is calibrated if, of the images that it gives a probability of 0.8, eight in
ten are right. Networks usually claim too much, or, trained with label smoothing, too
little; one number, the temperature that logits are divided by, mends most of it.

References:
    Guo, Pleiss, Sun, Weinberger, "On calibration of modern neural networks", ICML 2017:
    https://arxiv.org/abs/1706.04599
"""

import math
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Float64, Int64, Integer

from mnist_jax.evaluation.scores import log_softmax

BINS = 15
"""Bins of equal width between 0 and 1, as in the paper."""

# Temperatures are sought between e**-_WIDEST and e**_WIDEST.
_WIDEST = 7.0


class Reliability(NamedTuple):
    """Predictions sorted into bins by their confidence, the largest probability."""

    edges: Float64[np.ndarray, " bins+1"]
    """Of the bins, from 0 to 1; a bin has its upper edge, but not its lower one."""
    counts: Int64[np.ndarray, " bins"]
    """Predictions in each bin."""
    confidence: Float64[np.ndarray, " bins"]
    """Their mean confidence; NaN where there are none."""
    accuracy: Float64[np.ndarray, " bins"]
    """The share of them that is right; NaN where there are none."""

    @property
    def error(self) -> float:
        """The expected calibration error (ECE), in 0..1.

        That is the distance between confidence and accuracy, averaged over predictions.
        """
        distances = np.abs(self.confidence - self.accuracy)
        return float(np.nansum(self.counts * distances) / self.counts.sum())


def reliability(
    logits: Float[np.ndarray, "n k"],
    labels: Integer[np.ndarray, " n"],
    bins: int = BINS,
) -> Reliability:
    """Sort predictions by their confidence, and count how many of them are right."""
    logs = log_softmax(logits)
    confidence, right = np.exp(logs.max(axis=1)), logs.argmax(axis=1) == labels
    edges = np.linspace(0, 1, bins + 1)
    place = np.searchsorted(edges[1:-1], confidence, side="left")
    counts = np.bincount(place, minlength=bins)
    with np.errstate(invalid="ignore"):  # 0/0 is NaN
        return Reliability(
            edges,
            counts,
            np.bincount(place, confidence, bins) / counts,
            np.bincount(place, right, bins) / counts,
        )


def loss(
    logits: Float[np.ndarray, "n k"],
    labels: Integer[np.ndarray, " n"],
    temperature: float = 1.0,
) -> float:
    """Return the mean cross-entropy in nats of logits divided by a temperature."""
    logs = log_softmax(np.asarray(logits, np.float64) / temperature)
    return float(-np.take_along_axis(logs, _column(labels), axis=1).mean())


def temperature(
    logits: Float[np.ndarray, "n k"], labels: Integer[np.ndarray, " n"]
) -> float | None:
    """Return the temperature that minimises `loss`, or None if there is none.

    There is none if every prediction is right, so that a lower temperature is always
    better, or if the logits say nothing of the labels. It is to be fitted on images
    that were neither trained nor are tested on. No prediction changes with it.
    """
    from scipy import optimize

    logits = np.asarray(logits, np.float64)
    of_the_label = np.take_along_axis(logits, _column(labels), axis=1)

    def slope(log_inverse: float) -> float:
        """Return the derivative of the loss by the inverse of the temperature.

        The loss is convex in the inverse, so there is one root at most.
        """
        probabilities = np.exp(log_softmax(logits * math.exp(log_inverse)))
        return float(((probabilities * logits).sum(1) - of_the_label[:, 0]).mean())

    if not slope(-_WIDEST) < 0 < slope(_WIDEST):
        return None
    found = optimize.root_scalar(slope, bracket=(-_WIDEST, _WIDEST), xtol=1e-12)
    return math.exp(-found.root)


def _column(labels: Integer[np.ndarray, " n"]) -> Int64[np.ndarray, "n 1"]:
    return np.asarray(labels, np.int64)[:, None]
