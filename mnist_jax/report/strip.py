"""A picture that was read: its digits, the network's input and its probabilities.

Drawn with Pillow: a page of digits has more bars than Matplotlib draws in a second.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont, ImageOps

from mnist_jax.photos import Digit, Reading, pictures
from mnist_jax.report import style

# Pixels.
_PICTURE_WIDTH = 560
_TILE, _NAMES, _BARS, _PAD = 112, 56, 110, 12
_COLUMNS, _CLASSES_SHOWN = 4, 5


def draw(
    source: Any, reading: Reading, classes: Sequence[str], *, prepared: bool = False
) -> Image.Image:
    """Draw a reading: the picture with its boxes, then each digit with its bars.

    Args:
        source: the picture, as for `Trained.read`; a file is read from its beginning.
        reading: of the picture.
        classes: their names, in the order of the probabilities.
        prepared: the source is a file of 28x28 images: there are no boxes to show.
    """
    cards = [_card(digit, classes) for digit in reading.digits]
    width, height = cards[0].size
    columns = min(_COLUMNS, len(cards))
    top = Image.new("RGB", (0, 0)) if prepared else _with_boxes(source, reading)
    page_width = max(columns * width, top.width)
    page_height = top.height + -(-len(cards) // columns) * height
    page = Image.new("RGB", (page_width, page_height), "white")
    page.paste(top)
    for place, card in enumerate(cards):
        row, column = divmod(place, columns)
        page.paste(card, (column * width, top.height + row * height))
    return page


def _with_boxes(source: Any, reading: Reading) -> Image.Image:
    """Draw the picture, each digit in a box below its label."""
    if hasattr(source, "seek"):
        source.seek(0)
    grey, scale = pictures.read(source)
    picture = Image.fromarray(np.rint(255 * grey.clip(0, 1)).astype(np.uint8))
    factor = _PICTURE_WIDTH / max(picture.size)
    width, height = (max(1, round(factor * side)) for side in picture.size)
    picture = picture.resize((width, height)).convert("RGB")
    pen, size = ImageDraw.Draw(picture), 15
    font = ImageFont.truetype(style.font_path(), size)
    for digit in reading.digits:
        left, top, right, bottom = (side * factor / scale for side in digit.box)
        colour = style.VERMILION if digit.unsure else style.BLUE
        # Within the picture, even if the digit touches its border.
        left, top = max(left - 3, 0), max(top - 3, 0)
        right, bottom = min(right + 2, width - 1), min(bottom + 2, height - 1)
        pen.rectangle((left, top, right, bottom), outline=colour, width=2)
        place, label = (left + 3, max(top - 1, size)), style.drawable(digit.label)
        x0, y0, x1, y1 = pen.textbbox(place, label, font, anchor="lb")
        pen.rectangle((x0 - 3, y0 - 2, x1 + 3, y1 + 2), colour)
        pen.text(place, label, fill="white", font=font, anchor="lb")
    return ImageOps.expand(picture, _PAD, "white")


def _card(digit: Digit, classes: Sequence[str]) -> Image.Image:
    """Draw what the network saw, and beside it the most probable classes."""
    width, height = _TILE + _NAMES + _BARS + 3 * _PAD, _TILE + 2 * _PAD
    card = Image.new("RGB", (width, height), "white")
    seen = Image.fromarray(digit.image).resize((_TILE, _TILE), Image.Resampling.NEAREST)
    card.paste(seen.convert("RGB"), (_PAD, _PAD))
    pen, font = ImageDraw.Draw(card), ImageFont.truetype(style.font_path(), 10)
    left, step = _TILE + _NAMES + 2 * _PAD, _TILE / _CLASSES_SHOWN
    order = digit.probabilities.argsort(stable=True)[::-1][:_CLASSES_SHOWN].tolist()
    room, first = _BARS - 40, style.VERMILION if digit.unsure else style.BLUE
    for place, label in enumerate(order):
        probability = float(digit.probabilities[label])
        middle = _PAD + (place + 0.5) * step
        colour = style.MUTED if place else first
        name = style.drawable(classes[int(label)], 9)
        pen.text((left - 6, middle), name, style.INK, font=font, anchor="rm")
        box = (left, middle - 6, left + room, middle + 6)
        pen.rectangle(box, style.HAIRLINE)
        if probability * room >= 1:
            pen.rectangle((*box[:2], left + probability * room, box[3]), colour)
        percent = f"{100 * probability:.0f} %"
        pen.text((left + room + 4, middle), percent, style.INK, font=font, anchor="lm")
    return card
