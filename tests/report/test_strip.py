"""The strip of a picture that was read."""

import numpy as np
import pytest
from PIL import Image

import mnist_jax
from mnist_jax.report import strip
from mnist_jax.report.style import BLUE, VERMILION

COLOURS = {"unsure": VERMILION, "sure": BLUE}


@pytest.mark.parametrize("rows", [slice(20, 80), slice(0, 100)])
def test_all_sides_of_a_box_are_seen_though_the_digit_touches_the_border(rows):
    paper = np.full((100, 100), 255, np.uint8)
    paper[rows, 45:55] = 0  # a one
    reading = mnist_jax.load_run().read(Image.fromarray(paper))
    colour = COLOURS["unsure" if reading.digits[0].unsure else "sure"]
    page = np.asarray(strip.draw(Image.fromarray(paper), reading))
    ink = (page == tuple(bytes.fromhex(colour[1:]))).all(axis=2)
    # The picture is 560 pixels high and wide, with 12 of margin.
    picture = ink[12:572, 12:572]
    height = 560 * (min(rows.stop + 1, 100) - max(rows.start - 1, 0)) / 100
    across, along = picture.sum(axis=1), picture.sum(axis=0)
    assert (across > 50).sum() == 4  # two sides of two pixels each
    assert (along > 0.9 * height).sum() == 4
