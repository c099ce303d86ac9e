"""All that can be said of one network and one set of images, ready for JSON."""

from collections.abc import Collection
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Integer

from mnist_jax.evaluation import calibration
from mnist_jax.evaluation.scores import evaluate, wilson_interval


class Held(NamedTuple):
    """What a network says to images that it was neither trained nor is tested on."""

    logits: Float[np.ndarray, "n 10"]
    labels: Integer[np.ndarray, " n"]


def assess(
    logits: Float[np.ndarray, "n 10"],
    labels: Integer[np.ndarray, " n"],
    *,
    held: Held | None = None,
    doubtful: Collection[int] = (),
) -> dict[str, Any]:
    """Return a network's figures, and how far its probabilities can be trusted.

    Args:
        logits: of the images.
        labels: theirs.
        held: what the temperature is fitted on, if there is something.
        doubtful: places of images whose labels are in doubt.

    Returns:
        A dict:

        - "evaluation": of `evaluate`
        - "without_doubtful_labels": of `share_right` for the other images; None if no
          label is in doubt
        - "calibration": "loss", "ece" and "bins" as the network is; "temperature", and
          with it "loss_scaled", "ece_scaled" and "bins_scaled", None if there is none
    """
    right = logits.argmax(axis=1) == labels
    sure = np.setdiff1d(np.arange(len(labels)), list(doubtful))
    fitted = calibration.temperature(*held) if held else None
    found: dict[str, Any] = _calibration(logits, labels, 1.0)
    scaled = _calibration(logits, labels, fitted) if fitted else dict.fromkeys(found)
    return {
        "evaluation": evaluate(logits, labels),
        "without_doubtful_labels": share_right(right[sure]) if doubtful else None,
        "calibration": found
        | {"temperature": fitted}
        | {f"{name}_scaled": value for name, value in scaled.items()},
    }


def share_right(right: np.ndarray) -> dict[str, Any]:
    """Return "examples", "accuracy" and its 95 % Wilson interval."""
    correct, examples = int(right.sum()), len(right)
    return {
        "examples": examples,
        "accuracy": correct / examples,
        "accuracy_interval": list(wilson_interval(correct, examples)),
    }


def _calibration(logits, labels, temperature: float) -> dict[str, Any]:
    found = calibration.reliability(logits / np.float64(temperature), labels)
    return {
        "loss": calibration.loss(logits, labels, temperature),
        "ece": found.error,
        "bins": [
            {"from": low, "to": high, "count": int(count)}
            | ({"confidence": confidence, "accuracy": accuracy} if count else {})
            for low, high, count, confidence, accuracy in zip(
                found.edges[:-1].tolist(),
                found.edges[1:].tolist(),
                found.counts,
                found.confidence.tolist(),
                found.accuracy.tolist(),
                strict=True,
            )
        ],
    }
