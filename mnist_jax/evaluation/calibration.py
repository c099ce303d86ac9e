"""Whether a network's probabilities are what they claim to be.

A network is calibrated if eight in ten of its predictions with probability 0.8 are
right. Networks are usually overconfident, or underconfident after label smoothing;
dividing the logits by one number, the temperature, corrects most of it.

References:
    Guo, Pleiss, Sun, Weinberger, "On calibration of modern neural networks", ICML 2017:
    https://arxiv.org/abs/1706.04599
"""

import itertools
import math
from typing import Any

import numpy as np

from mnist_jax.evaluation.scores import Labels, Logits, log_softmax

BINS = 15
"""Bins of equal width between 0 and 1, as in the paper."""

# Temperatures are sought between e**-_WIDEST and e**_WIDEST.
_WIDEST = 7.0


def assess(
    logits: Logits, labels: Labels, held: tuple[np.ndarray, np.ndarray] | None = None
) -> dict[str, Any]:
    """Return how far a network's probabilities can be trusted, ready for JSON.

    Args:
        logits: of the images, whose labels follow.
        labels: indices of classes.
        held: logits and labels of others, neither trained nor tested on, to fit the
            temperature on.

    Returns:
        "loss", "ece" and "bins"; "temperature", and the same three with it:
        "loss_scaled" and so on. The last four are None without a temperature.
    """
    fitted = temperature(*held) if held else None
    found: dict[str, Any] = _assess(logits, labels, 1.0)
    scaled = _assess(logits, labels, fitted) if fitted else dict.fromkeys(found)
    scaled = {f"{name}_scaled": value for name, value in scaled.items()}
    return found | {"temperature": fitted} | scaled


def _assess(logits: Logits, labels: Labels, divisor: float) -> dict[str, Any]:
    bins = reliability(logits / np.float64(divisor), labels)
    return {"loss": loss(logits, labels, divisor), "ece": error(bins), "bins": bins}


def reliability(logits: Logits, labels: Labels) -> list[dict[str, Any]]:
    """Sort predictions into bins by their confidence, the largest probability.

    Returns:
        For each bin "from" (excluded), "to" (included), "count" and, unless it is
        empty, the mean "confidence" and the "accuracy" of its predictions.
    """
    logs = log_softmax(logits)
    confidence, right = np.exp(logs.max(axis=1)), logs.argmax(axis=1) == labels
    edges = np.linspace(0, 1, BINS + 1)
    place = np.searchsorted(edges[1:-1], confidence, side="left")
    found = []
    for number, (low, high) in enumerate(itertools.pairwise(edges.tolist())):
        inside = place == number
        found.append({"from": low, "to": high, "count": int(inside.sum())})
        if inside.any():
            found[-1]["confidence"] = float(confidence[inside].mean())
            found[-1]["accuracy"] = float(right[inside].mean())
    return found


def error(bins: list[dict[str, Any]]) -> float:
    """Return the expected calibration error (ECE): mean |confidence - accuracy|."""
    filled = [one for one in bins if one["count"]]
    gaps = [one["count"] * abs(one["confidence"] - one["accuracy"]) for one in filled]
    return sum(gaps) / sum(one["count"] for one in filled)


def loss(logits: Logits, labels: Labels, temperature: float = 1.0) -> float:
    """Return the mean cross-entropy in nats of logits divided by a temperature."""
    logs = log_softmax(np.asarray(logits, np.float64) / temperature)
    return float(-logs[np.arange(len(labels)), labels].mean())


def temperature(logits: Logits, labels: Labels) -> float | None:
    """Return the temperature that minimises `loss`, or None without a minimum.

    There is no minimum if every prediction is right, or if the logits are no better
    than chance. A temperature changes no prediction.
    """
    from scipy import optimize

    logits = np.asarray(logits, np.float64)
    of_the_label = logits[np.arange(len(labels)), labels]

    def slope(log_inverse: float) -> float:
        # The derivative of the loss by the inverse of the temperature, in which the
        # loss is convex: there is one root at most.
        probabilities = np.exp(log_softmax(logits * math.exp(log_inverse)))
        return float(((probabilities * logits).sum(1) - of_the_label).mean())

    if not slope(-_WIDEST) < 0 < slope(_WIDEST):
        return None
    found = optimize.root_scalar(slope, bracket=(-_WIDEST, _WIDEST), xtol=1e-12)
    return math.exp(-found.root)
