"""Accuracy on damaged images by definition; views are averaged."""

import numpy as np

from mnist_jax.data.corruptions import CORRUPTIONS, corrupt
from mnist_jax.evaluation import robustness


def by_ink(images):
    """A network of a kind: the more ink there is, the higher the digit."""
    share = images.astype(np.float64).mean(axis=(1, 2, 3)) / 60
    return -np.abs(share[:, None] * 9 - np.arange(10))


def test_accuracies_are_those_of_the_damaged_images(small):
    split = robustness.spread(small.test, 20)
    reversed_fn = lambda images: -by_ink(images)  # noqa: E731
    found = robustness.measure([by_ink, reversed_fn], split, seed=3)
    for one, predict in zip(found, (by_ink, reversed_fn), strict=True):
        assert one["examples"] == 20
        for kind, damage in CORRUPTIONS.items():
            for amount, accuracy in zip(
                damage.amounts, one["accuracy"][kind], strict=True
            ):
                images = corrupt(split.images, kind, amount, seed=3)
                assert (
                    accuracy == (predict(images).argmax(axis=1) == split.labels).mean()
                )


def test_a_part_is_spread_over_the_whole(small):
    split = small.test
    part = robustness.spread(split, 5)
    np.testing.assert_array_equal(part.images, split.images[::10])
    np.testing.assert_array_equal(part.labels, split.labels[::10])
    np.testing.assert_array_equal(robustness.spread(split, 50).images, split.images)


def test_test_time_augmentation_is_the_mean_over_the_views(small):
    seen = []

    def predict(images):
        seen.append(images)
        return np.eye(10)[len(seen) - 1] * np.ones((len(images), 1))

    images = small.test.images[:4]
    found = robustness.predict_views(predict, images)
    np.testing.assert_allclose(found, [[1 / 7] * 7 + [0] * 3] * 4)
    np.testing.assert_array_equal(seen[0], images)
    # Rows up, rows down, columns to the left, to the right; digits keep off the edge.
    for views, move, axis in ((1, -1, 1), (2, 1, 1), (3, -1, 2), (4, 1, 2)):
        np.testing.assert_array_equal(seen[views], np.roll(images, move, axis))
    assert all((view != images).any() for view in seen[1:])
