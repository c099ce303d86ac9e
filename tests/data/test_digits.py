import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from mnist_jax.data import digits
from mnist_jax.data.centering import center_in_28x28

# Any shape of ink; none so faint that shrinking it to 20 pixels leaves only paper.
IMAGES = hnp.arrays(
    np.float64,
    hnp.array_shapes(min_dims=2, max_dims=2, max_side=40),
    elements=st.sampled_from([0.0, 0.5, 1.0]),
    fill=st.just(0.0),
).filter(np.any)


def box(image):
    """First and last row, first and last column of the ink."""
    rows, columns = (np.flatnonzero(image.any(axis=axis)) for axis in (1, 0))
    return rows[0], rows[-1], columns[0], columns[-1]


def centre_of_mass(image):
    weights = image.astype(float)
    row = (weights.sum(axis=1) * np.arange(28)).sum() / weights.sum()
    column = (weights.sum(axis=0) * np.arange(28)).sum() / weights.sum()
    return row, column


def assert_placed_like_mnist(image):
    top, bottom, left, right = box(image)
    assert bottom - top < 20 and right - left < 20
    for centre, first, last in zip(
        centre_of_mass(image), (top, left), (bottom, right), strict=True
    ):
        if centre < 13.5 - 1e-9:
            assert last == 27  # Stopped by the edge.
        elif centre > 14.5 + 1e-9:
            assert first == 0


@given(IMAGES)
def test_ink_is_placed_like_mnist(ink):
    image = center_in_28x28(ink)
    assert image.shape == (28, 28) and image.dtype == np.uint8
    assert_placed_like_mnist(image)


@given(IMAGES, st.tuples(*[st.integers(0, 9)] * 4))
def test_paper_around_it_changes_nothing(ink, margins):
    top, bottom, left, right = margins
    padded = np.pad(ink, ((top, bottom), (left, right)))
    np.testing.assert_array_equal(center_in_28x28(padded), center_in_28x28(ink))


@given(st.integers(1, 60), st.integers(1, 60))
def test_a_full_rectangle_keeps_its_ink_and_its_proportions(height, width):
    image = center_in_28x28(np.ones((height, width)))
    assert set(np.unique(image)) == {0, 255}
    top, bottom, left, right = box(image)
    sides = bottom - top + 1, right - left + 1
    assert max(sides) == 20
    assert sides[0] == pytest.approx(max(20 * height / max(height, width), 1), abs=0.5)
    assert sides[1] == pytest.approx(max(20 * width / max(height, width), 1), abs=0.5)
    assert_placed_like_mnist(image)


@pytest.mark.parametrize("bad", [-0.1, 1.1, 255, np.nan, np.inf])
def test_values_outside_0_to_1_are_refused(bad):
    ink = np.ones((5, 5))
    ink[2, 3] = bad
    with pytest.raises(ValueError, match=r"values in 0\.\.1"):
        center_in_28x28(ink)


def test_the_digits_of_mnist_are_already_in_their_place(official):
    # They were made by these very steps: doing them again must change no pixel. (Three
    # of the 10,000 have a box of 19 and are scaled.)
    images = official[1].images[:2000, :, :, 0]
    sides = [max(b - t, r - le) + 1 for t, b, le, r in map(box, images)]
    assert sides.count(20) >= 1999
    for image, side in zip(images, sides, strict=True):
        if side == 20:
            np.testing.assert_array_equal(center_in_28x28(image / 255), image)


@pytest.fixture(scope="module")
def loaded():
    return digits.load()


def test_images_keep_the_order_and_the_labels_of_the_file(loaded):
    from sklearn.datasets import load_digits

    pixels, targets = load_digits(return_X_y=True)
    pixels, targets = np.asarray(pixels), np.asarray(targets)
    is_test = np.arange(1797) % 5 == 4  # every fifth
    for split, part in zip(loaded, (~is_test, is_test), strict=True):
        np.testing.assert_array_equal(split.labels, targets[part])
        # An image that is darker than others is darker in both.
        ink = split.images.mean(axis=(1, 2, 3))
        assert np.corrcoef(ink, pixels[part].mean(axis=1))[0, 1] > 0.5
