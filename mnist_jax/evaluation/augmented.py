"""Test-time augmentation: one prediction from several views of an image."""

import math

import numpy as np
from jaxtyping import Float64, UInt8

from mnist_jax.data import corruptions
from mnist_jax.evaluation.robustness import Predict

# Each is what `corruptions.warp` takes.
VIEWS: tuple[dict[str, float], ...] = (
    {},
    {"row_shift": 1},
    {"row_shift": -1},
    {"column_shift": 1},
    {"column_shift": -1},
    {"angle": math.radians(7)},
    {"angle": math.radians(-7)},
)
DESCRIPTION = (
    "mean of the probabilities over 7 views: as it is, shifted by one pixel up, down, "
    "left and right, turned by 7 degrees to either side"
)


def predict(
    predict_fn: Predict, images: UInt8[np.ndarray, "n 28 28 1"]
) -> Float64[np.ndarray, "n classes"]:
    """Return the mean probability of each class over the views of each image.

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
