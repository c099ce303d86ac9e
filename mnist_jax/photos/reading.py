"""The digits in a picture, read by any classifier of 28x28 images."""

import base64
import dataclasses
import html
import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image
from scipy import special

from mnist_jax.errors import UserError
from mnist_jax.evaluation.predictor import Predictor
from mnist_jax.photos import finding
from mnist_jax.photos.finding import Digit

_SMALLEST_BATCH = 8  # few programs are compiled, however many digits there are


@dataclasses.dataclass(frozen=True, repr=False)
class Reading:
    """The digits of a picture; `str(reading)` has their labels, line by line."""

    digits: tuple[Digit, ...]

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

    Args:
        predictor: the classifier.
        threshold: the probability below which a digit is unsure, in 0..1.
        source: as for `find_digits`.

    Raises:
        PhotoError: it is not an image, or there is no digit in it.
        OSError: the file cannot be read.
    """
    return classify(predictor, threshold, finding.find_digits(source))


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
                unsure=digit.is_wide or bool(row.max() < threshold),
            )
            for digit, row in zip(found, each, strict=False)
        )
    )
