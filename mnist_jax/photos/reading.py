"""The digits in a picture, read by any classifier of 28x28 images."""

import base64
import contextlib
import dataclasses
import html
import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image
from scipy import special

from mnist_jax.data.raster import PhotoError
from mnist_jax.errors import UserError
from mnist_jax.evaluation.predictor import Predictor
from mnist_jax.photos import finding, pictures
from mnist_jax.photos.finding import Digit

# A picture is turned if its digits have a lower mean probability, and read that way if
# the mean gets so much higher; without digits, if it gets as high as the first.
_PROBABLE, _HIGHER = 0.9, 0.1
_SMALLEST_BATCH = 8  # few programs are compiled, however many digits there are


@dataclasses.dataclass(frozen=True, repr=False)
class Reading:
    """The digits of a picture; `str(reading)` has their labels, line by line."""

    digits: tuple[Digit, ...]
    turned: int = 0
    """Degrees by which the picture was turned counterclockwise to be read."""

    @property
    def probability(self) -> float:
        """Of the most probable classes, the mean over the digits, in 0..1."""
        return sum(digit.probability for digit in self.digits) / len(self.digits)

    @property
    def unsure(self) -> bool:
        """Whether any of the digits is."""
        return any(digit.unsure for digit in self.digits)

    def __str__(self) -> str:
        lines: dict[int, list[str]] = {}
        for digit in self.digits:
            lines.setdefault(digit.line, []).append(digit.label)
        space = " " if any(len(digit.label) > 1 for digit in self.digits) else ""
        return "\n".join(space.join(labels) for labels in lines.values())

    def __repr__(self) -> str:
        unsure = sum(digit.unsure for digit in self.digits)
        return f"<Reading {str(self)!r}: {len(self.digits)} digits, {unsure} unsure>"

    def _repr_html_(self) -> str:
        lines = dict.fromkeys((digit.line for digit in self.digits), "")
        for digit in self.digits:
            png = io.BytesIO()
            Image.fromarray(digit.image).save(png, "PNG")
            lines[digit.line] += (
                "<td><img width=56 src='data:image/png;base64,"
                f"{base64.b64encode(png.getvalue()).decode()}'><br>"
                f"{html.escape(digit.label)}{'?' if digit.unsure else ''}<br>"
                f"<small>{digit.probability:.3f}</small></td>"
            )
        rows = "".join(f"<tr>{line}</tr>" for line in lines.values())
        return f"<table style='text-align: center'>{rows}</table>"


def read(predictor: Predictor, threshold: float, source: Any) -> Reading:
    """Find the digits in a picture, and classify them.

    If several digits have a low probability, the picture is turned by 90, 180 and 270
    degrees, too; a reading with a clearly higher one is returned instead. It is also
    turned if it seems to have no digits; what is then read is unsure.

    Args:
        predictor: the classifier.
        threshold: the probability below which a digit is unsure, in 0..1.
        source: as for `find_digits`.

    Raises:
        PhotoError: it is not an image, or there is no digit in it.
        OSError: the file cannot be read.
    """
    picture = pictures.read(source)
    best: Reading | PhotoError

    def turned(turns: int, doubt: str = "") -> Reading:
        found = finding.find_in(*picture, turns)
        found = [dataclasses.replace(each, doubt=each.doubt or doubt) for each in found]
        reading = classify(predictor, threshold, found)
        return dataclasses.replace(reading, turned=90 * turns)

    try:
        best = turned(0)
        if len(best.digits) == 1 or best.probability >= _PROBABLE:
            return best
        doubt, least = "", best.probability + _HIGHER
    except PhotoError as error:
        best, doubt, least = error, "turned", _PROBABLE
    for turns in (1, 2, 3):
        with contextlib.suppress(PhotoError):
            reading = turned(turns, doubt)
            if reading.probability >= least:
                best, least = reading, reading.probability
    if isinstance(best, PhotoError):
        raise best
    return best


def classify(predictor: Predictor, threshold: float, found: Sequence[Digit]) -> Reading:
    """Classify digits; UserError if the classifier needs images of another shape."""
    images = np.stack([digit.image for digit in found])
    size = max(_SMALLEST_BATCH, 1 << (len(images) - 1).bit_length())
    batch = np.zeros((size, *images.shape[1:]), np.uint8)
    batch[: len(images)] = images
    try:
        logits = np.asarray(predictor.logits(batch), np.float64)
    except ValueError as error:  # of the shape
        raise UserError(f"The classifier reads no digits of 28x28: {error}.") from error
    each = special.softmax(logits, axis=-1).astype(np.float32)
    return Reading(
        tuple(
            dataclasses.replace(
                digit,
                label=predictor.classes[row.argmax()],
                probabilities=row,
                unsure=bool(digit.doubt or row.max() < threshold),
            )
            for digit, row in zip(found, each, strict=False)
        )
    )
