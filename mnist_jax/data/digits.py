"""The embedded data set: 1,797 handwritten digits that are part of scikit-learn.

They are the test set, written by 13 people, of E. Alpaydin and C. Kaynak, "Optical
Recognition of Handwritten Digits", 1998, https://archive.ics.uci.edu/dataset/80. Each
of their 8x8 pixels counts the black pixels in a block of 4x4. They are brought to
MNIST's size and position here, so that everything can be tried without a network.
Accuracies on them are not comparable with those on MNIST.
"""

import numpy as np
from jaxtyping import Float
from PIL import Image
from sklearn.datasets import load_digits

from mnist_jax.config import Data
from mnist_jax.data.centering import center_in_28x28
from mnist_jax.data.dataset import Split


def load(_: Data | None = None) -> tuple[Split, Split]:
    """Return 1,438 training images, and every fifth image, 359, for testing.

    This is an easy test set: with the last fifth instead, the quickstart reaches 0.93
    instead of 0.98, perhaps because neighbours were written by the same person.
    """
    pixels, targets = load_digits(return_X_y=True)
    counts = np.asarray(pixels).reshape(-1, 8, 8)
    images = np.stack([center_in_28x28(_enlarge(image)) for image in counts])
    images, labels = images[..., np.newaxis], np.asarray(targets).astype(np.uint8)
    is_test = np.arange(len(labels)) % 5 == 4
    return (
        Split(images[~is_test], labels[~is_test]),
        Split(images[is_test], labels[is_test]),
    )


def _enlarge(counts: Float[np.ndarray, "8 8"]) -> Float[np.ndarray, "40 40"]:
    """Estimate the bitmap whose 4x4 blocks have these counts of black pixels, 0..16.

    It is ink in 0..1, with a border for the soft edges.
    """
    padded = Image.fromarray(np.pad(counts, 1).astype(np.float32) / 16)
    enlarged = np.asarray(padded.resize((40, 40), Image.Resampling.BICUBIC))
    return enlarged.clip(0, 1)  # bicubic interpolation overshoots a little
