"""The strip of a picture that was read."""

import numpy as np
import pytest
from PIL import Image

from mnist_jax.photos import reading
from mnist_jax.report import strip
from mnist_jax.report.style import BLUE, VERMILION

COLOURS = {True: VERMILION, False: BLUE}


class Fake:
    """Answers the first class, with little doubt."""

    def __init__(self, *classes):
        self.classes = classes

    def logits(self, images):
        return np.eye(len(self.classes), dtype=np.float32)[[0] * len(images)] * 5


@pytest.mark.parametrize("rows", [slice(20, 80), slice(0, 100)])
@pytest.mark.parametrize("classes", [("a", "b"), [f"あ <{n}>" for n in range(62)]])
def test_all_sides_of_a_box_are_seen_though_the_digit_touches_the_border(rows, classes):
    paper = np.full((100, 100), 255, np.uint8)
    paper[rows, 45:55] = 0  # a one
    found = reading.read(Fake(*classes), 0.5, Image.fromarray(paper))
    colour = COLOURS[found.digits[0].unsure]
    page = np.asarray(strip.draw(Image.fromarray(paper), found, classes))
    ink = (page == tuple(bytes.fromhex(colour[1:]))).all(axis=2)
    # The picture is 560 pixels high and wide, with 12 of margin.
    picture = ink[12:572, 12:572]
    height = 560 * (min(rows.stop + 1, 100) - max(rows.start - 1, 0)) / 100
    across, along = picture.sum(axis=1), picture.sum(axis=0)
    assert (across > 50).sum() == 4  # two sides of two pixels each
    assert (along > 0.9 * height).sum() == 4
