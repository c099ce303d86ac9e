"""Accuracy on damaged images, and test-time augmentation."""

import math
import statistics
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float32, Float64, UInt8

from mnist_jax.data import Split, corruptions
from mnist_jax.data.corruptions import CORRUPTIONS, STRENGTHS, corrupt

Predict = Callable[[UInt8[np.ndarray, "n h w 1"]], Float32[np.ndarray, "n classes"]]
"""From images to logits or probabilities."""

# Arguments of `corruptions.warp`.
VIEWS: tuple[dict[str, float], ...] = (
    {},
    {"row_shift": 1},
    {"row_shift": -1},
    {"column_shift": 1},
    {"column_shift": -1},
    {"angle": math.radians(7)},
    {"angle": math.radians(-7)},
)
ABOUT_VIEWS = (
    "mean of the probabilities over 7 views: as it is, shifted by one pixel up, down, "
    "left and right, turned by 7 degrees to either side"
)


def spread(split: Split, count: int) -> Split:
    """Return `count` images, evenly spaced over a set: MNIST's halves differ."""
    places = np.arange(count) * len(split) // count
    return Split(split.images[places], split.labels[places])


def measure(
    predicts: Sequence[Predict], split: Split, *, seed: int = 0
) -> list[dict[str, Any]]:
    """Measure the accuracy of networks on damaged images.

    Args:
        predicts: one for each network.
        split: the images before the damage.
        seed: of the damage.

    Returns:
        For each network a dict, ready for JSON:

        - "examples", "seed"
        - "accuracy": on the images as they are
        - "corruptions": by kind, "amounts" and "accuracy" of the five strengths
        - "mean_damaged_accuracy": over all kinds and strengths
    """

    def accuracies(images: UInt8[np.ndarray, "n h w 1"]) -> list[float]:
        return [float((p(images).argmax(1) == split.labels).mean()) for p in predicts]

    clean = accuracies(split.images)
    found: list[dict[str, Any]] = [
        {"examples": len(split), "seed": seed, "accuracy": one, "corruptions": {}}
        for one in clean
    ]
    for kind, damage in CORRUPTIONS.items():
        damaged = (corrupt(split.images, kind, s, seed=seed) for s in STRENGTHS)
        by_network = zip(*map(accuracies, damaged), strict=True)
        for one, accuracy in zip(found, by_network, strict=True):
            figures = {"amounts": list(damage.amounts), "accuracy": list(accuracy)}
            one["corruptions"][kind] = figures
    for one in found:
        one["mean_damaged_accuracy"] = statistics.mean(
            accuracy
            for kind in one["corruptions"].values()
            for accuracy in kind["accuracy"]
        )
    return found


def predict_views(
    predict_fn: Predict, images: UInt8[np.ndarray, "n h w 1"]
) -> Float64[np.ndarray, "n classes"]:
    """Return the mean probability of each class over the `VIEWS` of each image.

    Args:
        predict_fn: from images to probabilities.
        images: 0 to 255.
    """
    ink = images[..., 0].astype(np.float32) / 255
    total = 0.0
    for view in VIEWS:
        seen = np.rint(255 * corruptions.warp(ink, **view)).astype(np.uint8)
        total = total + predict_fn(seen[..., None]).astype(np.float64)
    return np.asarray(total / len(VIEWS))
