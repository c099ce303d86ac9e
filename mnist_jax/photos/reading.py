"""The digits in a picture, read by any classifier of 28x28 images."""

import base64
import dataclasses
import html
import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float32, UInt8
from PIL import Image
from scipy import special

from mnist_jax.errors import UserError
from mnist_jax.evaluation.predictor import Predictor
from mnist_jax.photos import finding, touching
from mnist_jax.photos.finding import Box

_SMALLEST_BATCH = 8  # few programs are compiled, however many digits there are


@dataclasses.dataclass(frozen=True, repr=False)
class Digit:
    """A digit as it was read.

    Attributes:
        label: the most probable class.
        probabilities: of each class.
        unsure: whether the highest probability is below the threshold, or it was cut
            off another digit that it touches.
        box: in pixels of the upright picture.
        image: as the network saw it, bright on dark.
        line: counted from 0.
    """

    label: str
    probabilities: Float32[np.ndarray, " classes"]
    unsure: bool
    box: Box
    image: UInt8[np.ndarray, "28 28"]
    line: int

    @property
    def probability(self) -> float:
        """Of the most probable class, in 0..1."""
        return float(self.probabilities.max())

    def __repr__(self) -> str:
        unsure = ", unsure" if self.unsure else ""
        return f"<Digit {self.label!r}: probability {self.probability:.3f}{unsure}>"


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
    found = finding.find_digits(source)
    return classify(predictor, threshold, divide(predictor, threshold, found))


def classify(
    predictor: Predictor, threshold: float, found: Sequence[finding.Digit]
) -> Reading:
    """Classify the digits that `find_digits` or `read_prepared` found.

    Raises:
        UserError: the classifier needs images of another shape.
    """
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
            Digit(
                label=predictor.classes[int(probabilities.argmax())],
                probabilities=probabilities,
                unsure=digit.is_piece or bool(probabilities.max() < threshold),
                box=digit.box,
                image=digit.image,
                line=digit.line,
            )
            for digit, probabilities in zip(found, each, strict=False)
        )
    )


def divide(
    predictor: Predictor, threshold: float, found: Sequence[finding.Digit]
) -> list[finding.Digit]:
    """Divide what `find_digits` found where it is several digits that touch.

    That is where the classifier is unsure that it is one, or it is too wide for one,
    and it can be cut so that each piece is above the threshold. (Where to cut is a
    guess: the pieces count as unsure.)
    """
    divided: list[finding.Digit] = []
    wholes = classify(predictor, threshold, found).digits
    for digit, whole in zip(found, wholes, strict=True):
        assert digit.ink is not None, "it was found in a photograph"
        may_be_several = whole.unsure or touching.is_wide(digit.ink)
        pieces = finding.divide(digit) if may_be_several else {}
        if pieces:
            said = classify(predictor, threshold, list(pieces.values())).digits
            probabilities = {
                where: each.probability
                for where, each in zip(pieces, said, strict=True)
                if each.probability >= threshold
            }
            best = touching.best_division(probabilities, digit.ink.shape[1])
            pieces = {where: pieces[where] for where in best}
        divided.extend(pieces.values() or [digit])
    return divided
