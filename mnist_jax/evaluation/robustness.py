"""Accuracy on damaged images, and test-time augmentation."""

import logging
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float32, Float64, UInt8

from mnist_jax.data import Split
from mnist_jax.data.corruptions import CORRUPTIONS, corrupt, warp

LOGGER = logging.getLogger(__name__)

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
    """Return accuracies on damaged images, ready for JSON.

    For each network a dict with "examples" and "accuracy": by the kind of damage, a
    list with the accuracy at each of its amounts.
    """
    found: list[dict[str, list[float]]] = [{} for _ in predicts]
    for kind, damage in CORRUPTIONS.items():
        LOGGER.info("Measuring damage by %s ...", kind)
        for amount in damage.amounts:
            images = corrupt(split.images, kind, amount, seed=seed)
            for one, predict in zip(found, predicts, strict=True):
                right = predict(images).argmax(axis=1) == split.labels
                one.setdefault(kind, []).append(float(right.mean()))
    return [{"examples": len(split), "accuracy": one} for one in found]


def predict_views(
    predict_fn: Predict, images: UInt8[np.ndarray, "n h w 1"]
) -> Float64[np.ndarray, "n classes"]:
    """Return the mean probability of each class over the `VIEWS` of each image.

    `predict_fn` returns probabilities.
    """
    ink = images[..., 0].astype(np.float32) / 255
    total = 0.0
    for view in VIEWS:
        seen = np.rint(255 * warp(ink, **view)).astype(np.uint8)
        total = total + predict_fn(seen[..., None]).astype(np.float64)
    return np.asarray(total / len(VIEWS))
