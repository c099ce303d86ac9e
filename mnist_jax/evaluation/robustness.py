"""How accuracy falls as test images are damaged more and more."""

import statistics
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float32, UInt8

from mnist_jax.data import Split
from mnist_jax.data.corruptions import CORRUPTIONS, STRENGTHS, corrupt

Predict = Callable[[UInt8[np.ndarray, "n 28 28 1"]], Float32[np.ndarray, "n classes"]]
"""From images to logits or probabilities."""


def spread(split: Split, count: int) -> Split:
    """Return `count` images, evenly spaced over a set: MNIST's halves differ."""
    places = np.arange(count) * len(split) // count
    return Split(split.images[places], split.labels[places])


def measure(
    predicts: Sequence[Predict], split: Split, *, seed: int = 0
) -> list[dict[str, Any]]:
    """Measure the accuracy of networks on damaged images.

    Args:
        predicts: one for each network; all see the same images.
        split: the images before the damage.
        seed: of the damage.

    Returns:
        For each network a dict, ready for JSON:

        - "examples", "seed"
        - "accuracy": on the images as they are
        - "corruptions": by kind, "amounts" and "accuracy" of the five strengths
        - "mean_corrupted_accuracy": over all kinds and strengths
    """

    def accuracies(images: UInt8[np.ndarray, "n 28 28 1"]) -> list[float]:
        return [float((p(images).argmax(1) == split.labels).mean()) for p in predicts]

    found: list[dict[str, Any]] = [
        {"examples": len(split), "seed": seed, "accuracy": clean, "corruptions": {}}
        for clean in accuracies(split.images)
    ]
    for name, kind in CORRUPTIONS.items():
        damaged = (corrupt(split.images, name, s, seed=seed) for s in STRENGTHS)
        by_strength = [accuracies(images) for images in damaged]
        for one, accuracy in zip(found, zip(*by_strength, strict=True), strict=True):
            one["corruptions"][name] = {
                "amounts": list(kind.amounts),
                "accuracy": list(accuracy),
            }
    for one in found:
        kinds = one["corruptions"].values()
        one["mean_corrupted_accuracy"] = statistics.mean(
            accuracy for kind in kinds for accuracy in kind["accuracy"]
        )
    return found
