"""A picture that was read, with what was found in it, what the network saw and said.

Drawn with Pillow: a page of digits has more bars than Matplotlib draws in a second.
"""

from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from mnist_jax.photos import pictures
from mnist_jax.photos.reading import Digit, Reading
from mnist_jax.report.style import BLUE, HAIRLINE, INK, MUTED, VERMILION

# Pixels.
_PICTURE_WIDTH = 560
_TILE, _BARS, _PAD = 112, 110, 12
_COLUMNS = 4


def draw(source: Any, reading: Reading, *, prepared: bool = False) -> Image.Image:
    """Draw a reading: the picture with its boxes, then each digit with ten bars.

    Args:
        source: the picture, as for `Run.read`; a file is read from its beginning.
        reading: what was read in it.
        prepared: the source is a file of 28x28 images: there are no boxes to show.
    """
    top = [] if prepared else [_with_boxes(source, reading)]
    cards = [_card(digit) for digit in reading.digits]
    width, height = cards[0].size
    columns = min(_COLUMNS, len(cards))
    rows = -(-len(cards) // columns)
    page_width = max([columns * width, *(picture.width + 2 * _PAD for picture in top)])
    above = sum(picture.height + _PAD for picture in top)
    page = Image.new("RGB", (page_width, above + rows * height), "white")
    for picture in top:
        page.paste(picture, (_PAD, _PAD))
    for place, card in enumerate(cards):
        at = place % columns * width, above + place // columns * height
        page.paste(card, at)
    return page


def _with_boxes(source: Any, reading: Reading) -> Image.Image:
    if hasattr(source, "seek"):
        source.seek(0)
    grey, scale = pictures.read(source)
    picture = Image.fromarray(np.rint(255 * grey.clip(0, 1)).astype(np.uint8))
    factor = _PICTURE_WIDTH / max(picture.size)
    picture = picture.resize(
        (max(1, round(picture.width * factor)), max(1, round(picture.height * factor)))
    ).convert("RGB")
    size = 15
    pen, font = ImageDraw.Draw(picture), ImageFont.load_default(size)
    for digit in reading.digits:
        left, top, right, bottom = (side * factor / scale for side in digit.box)
        colour = VERMILION if digit.unsure else BLUE
        # Within the picture, even if the digit touches its border.
        left, top = max(left - 3, 0), max(top - 3, 0)
        right = min(right + 2, picture.width - 1)
        bottom = min(bottom + 2, picture.height - 1)
        pen.rectangle((left, top, right, bottom), outline=colour, width=2)
        place = left + 1, max(top - 2, size)
        pen.text(place, digit.label, fill=colour, font=font, anchor="lb")
    return picture


def _card(digit: Digit) -> Image.Image:
    """Draw what the network saw, and beside it the probability of each class."""
    width, height = _TILE + _BARS + 3 * _PAD, _TILE + 2 * _PAD
    card = Image.new("RGB", (width, height), "white")
    seen = Image.fromarray(digit.image).resize((_TILE, _TILE), Image.Resampling.NEAREST)
    card.paste(seen.convert("RGB"), (_PAD, _PAD))
    pen, font = ImageDraw.Draw(card), ImageFont.load_default(10)
    left, step = _TILE + 2 * _PAD, _TILE / len(digit.probabilities)
    most = int(digit.probabilities.argmax())
    room = _BARS - 40
    for label, probability in enumerate(digit.probabilities.tolist()):
        top = _PAD + label * step
        middle = top + step / 2
        chosen = label == most
        colour = (VERMILION if digit.unsure else BLUE) if chosen else MUTED
        pen.text((left, middle), str(label), fill=INK, font=font, anchor="lm")
        pen.rectangle((left + 10, top + 2, left + 10 + room, top + step - 2), HAIRLINE)
        if probability * room >= 1:
            right = left + 10 + probability * room
            pen.rectangle((left + 10, top + 2, right, top + step - 2), colour)
        if chosen:
            text = f"{100 * probability:.0f} %"
            pen.text((left + 14 + room, middle), text, INK, font=font, anchor="lm")
    return card
