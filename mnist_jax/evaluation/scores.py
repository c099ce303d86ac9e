"""From logits to the figures of results.json. NumPy only: no device."""

import math
import statistics
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int64, Integer

Logits = Float[np.ndarray, "n k"]
Labels = Integer[np.ndarray, " n"]
"""Indices of classes."""

_Z_95 = statistics.NormalDist().inv_cdf(0.975)


class Mistakes(NamedTuple):
    """Wrongly classified examples, the most confident first."""

    indices: Int64[np.ndarray, " m"]
    """Rows of the set that was evaluated."""
    predicted: Int64[np.ndarray, " m"]
    """The wrong class."""
    confidence: Float[np.ndarray, " m"]
    """Its softmax probability, in 0..1."""


def evaluate(
    logits: Logits, labels: Labels, classes: Sequence[str] = ()
) -> dict[str, Any]:
    """Return the figures of a set's logits, ready for JSON.

    Args:
        logits: finite. N is at least 1. The first of the highest is the prediction.
        labels: in 0..k-1.
        classes: the name of each class; default: "0" to "k-1".

    Returns:
        A dict with these keys. A figure that would be 0/0 is None.

        - "examples", "accuracy", "accuracy_interval": see `proportion`.
        - "loss": mean cross-entropy in nats.
        - "accuracy_first_half", "accuracy_second_half": of the first N // 2 rows and of
          the rest. The halves of MNIST's test set come from different writers.
        - "confusion": k x k counts, [true][predicted].
        - "per_class": k dicts with "class", "precision", "recall", "f1", "support".

    Raises:
        ValueError: shapes, labels or classes do not fit, or a logit is not finite.
    """
    logits, labels = _checked(logits, labels)
    count = logits.shape[1]
    names = list(classes or map(str, range(count)))
    if len(names) != count:
        raise ValueError(f"got {count} logits of each example but {len(names)} classes")
    predicted = logits.argmax(axis=1)
    right = predicted == labels
    half = len(right) // 2
    pairs = np.bincount(labels * count + predicted, minlength=count**2)
    confusion = pairs.reshape(count, count)
    totals = np.diag(confusion), confusion.sum(axis=0), confusion.sum(axis=1)
    of_the_label = log_softmax(logits)[np.arange(len(labels)), labels]
    return {
        **proportion(right),
        # Adding zero makes the -0.0 of a perfect model a 0.0.
        "loss": float(-of_the_label.mean()) + 0.0,
        "accuracy_first_half": _ratio(int(right[:half].sum()), half),
        "accuracy_second_half": _ratio(int(right[half:].sum()), len(right) - half),
        "confusion": confusion.tolist(),
        "per_class": [
            {
                "class": name,
                "precision": _ratio(hits, predictions),
                "recall": _ratio(hits, support),
                "f1": _ratio(2 * hits, predictions + support),
                "support": support,
            }
            for name, hits, predictions, support in zip(
                names, *(total.tolist() for total in totals), strict=True
            )
        ],
    }


def proportion(right: np.ndarray) -> dict[str, Any]:
    """Return "examples", "accuracy" and its 95 % interval, "accuracy_interval"."""
    correct, examples = int(right.sum()), len(right)
    return {
        "examples": examples,
        "accuracy": correct / examples,
        "accuracy_interval": list(wilson_interval(correct, examples)),
    }


def most_confident_mistakes(logits: Logits, labels: Labels) -> Mistakes:
    """Return every wrong prediction, sorted by its probability, then by its place."""
    logits, labels = _checked(logits, labels)
    predicted = logits.argmax(axis=1)
    log_confidence = log_softmax(logits).max(axis=1)
    wrong = np.flatnonzero(predicted != labels)
    indices = wrong[np.argsort(-log_confidence[wrong], kind="stable")]
    return Mistakes(indices, predicted[indices], np.exp(log_confidence[indices]))


def wilson_interval(correct: int, examples: int) -> tuple[float, float]:
    """Return the 95 % score interval of a proportion, `correct` of `examples`.

    It stays inside 0..1 and has a width even if everything is right.

    References:
        Wilson, "Probable inference, the law of succession, and statistical inference",
        Journal of the American Statistical Association 22 (158), 1927.

    Example:
        >>> low, high = wilson_interval(9937, 10000)
        >>> f"{low:.4f} to {high:.4f}"
        '0.9919 to 0.9951'
    """
    z_squared = _Z_95**2
    centre = (correct + z_squared / 2) / (examples + z_squared)
    spread = math.sqrt(correct * (examples - correct) / examples + z_squared / 4)
    half = _Z_95 * spread / (examples + z_squared)
    # At the ends the two terms cancel, but not in floating point.
    return (
        centre - half if correct > 0 else 0.0,
        centre + half if correct < examples else 1.0,
    )


def log_softmax(logits: Logits) -> Logits:
    """Return the log-probabilities of each row, float64, without overflow."""
    logits = np.asarray(logits, np.float64)
    shifted = logits - logits.max(axis=1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))


def _checked(logits: Logits, labels: Labels) -> tuple[Logits, Int64[np.ndarray, " n"]]:
    """Return logits as float64 and labels as int64, or raise ValueError."""
    logits, labels = np.asarray(logits, np.float64), np.asarray(labels)
    if logits.ndim != 2 or labels.shape != logits.shape[:1] or not len(labels):
        raise ValueError(
            "logits must be [N, classes] and labels [N], with N above 0; got "
            f"{list(logits.shape)} and {list(labels.shape)}"
        )
    classes = range(logits.shape[1])
    if labels.dtype.kind not in "iu" or not {*np.unique(labels)} <= {*classes}:
        raise ValueError(f"labels must be integers in 0..{len(classes) - 1}")
    if not np.isfinite(logits).all():
        raise ValueError("logits must be finite")
    return logits, labels.astype(np.int64)


def _ratio(part: int, whole: int) -> float | None:
    return part / whole if whole else None
