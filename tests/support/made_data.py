"""Made-up data sets of 3 and of 62 classes, learned in seconds by a small network.

By dotted path: `tests.support.made_data:three` and `tests.support.made_data:sixty_two`.
An image is the pattern of its class, shifted by up to two pixels, with noise. One class
in three has a name with a space in it, and there are names with other letters or
with a slash.
"""

import numpy as np
from scipy import ndimage

from mnist_jax import data

THREE = ("Ankle boot", "T-shirt/top", "Straße <b>&")
SIXTY_TWO = tuple(
    f"letter {letter}" if number % 3 == 0 else letter
    for number, letter in enumerate(
        "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
    )
)


def make(classes: int, count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Images uint8 [count, 28, 28] and labels int64 [count], every class in turn."""
    patterns = np.random.RandomState(0).uniform(-1, 1, (classes, 28, 28))
    patterns = ndimage.gaussian_filter(patterns, (0, 2, 2)) > 0
    patterns[:, :4] = patterns[:, -4:] = False
    patterns[:, :, :4] = patterns[:, :, -4:] = False
    rng = np.random.RandomState(seed)
    labels = np.arange(count) % classes
    images = [
        np.roll(patterns[label], rng.randint(-2, 3, 2), axis=(0, 1)) for label in labels
    ]
    noisy = 200.0 * np.stack(images) + rng.uniform(0, 55, (count, 28, 28))
    return noisy.astype(np.uint8), labels


@data.source(*THREE)
def three(config):
    """150 images to divide into training and validation, 60 to test."""
    return make(3, 150, seed=1), make(3, 60, seed=2)


@data.source(*SIXTY_TWO)
def sixty_two(config):
    """620 images to divide into training and validation, 124 to test."""
    return make(62, 620, seed=1), make(62, 124, seed=2)
