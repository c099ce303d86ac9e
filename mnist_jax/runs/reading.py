"""A picture of handwriting read by a trained network."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import numpy as np
from jaxtyping import Float32, UInt8

from mnist_jax.data import photos, touching
from mnist_jax.data.photos import Box
from mnist_jax.runs.folder import RunFolder

if TYPE_CHECKING:
    from mnist_jax.runs.load import Run

FALSE_ALARMS = 0.02
"""The share of the validation images that count as unsure: it sets the threshold."""

# Of the network in this package, on the 6,000 validation images of its run.
PACKAGED_THRESHOLD = 0.8792
# So few programs are compiled, however many digits a picture has.
_SMALLEST_BATCH = 8


@dataclasses.dataclass(frozen=True)
class Digit:
    """A digit as it was read.

    Attributes:
        label: the most probable class.
        probabilities: of each class.
        unsure: whether the highest probability is below the threshold, or it was cut
            off another digit that it touches.
        box: where it lies, in pixels of the upright picture.
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


@dataclasses.dataclass(frozen=True)
class Reading:
    """What a picture says; `str(reading)` is the digits alone, a line for each line."""

    digits: tuple[Digit, ...]

    @property
    def unsure(self) -> bool:
        """Whether any of the digits is."""
        return any(digit.unsure for digit in self.digits)

    def __str__(self) -> str:
        lines: dict[int, str] = {}
        for digit in self.digits:
            lines[digit.line] = lines.get(digit.line, "") + digit.label
        return "\n".join(lines.values())


def read(run: "Run", found: Sequence[photos.Digit]) -> Reading:
    """Say which digits `photos.find_digits` or `photos.read_prepared` found."""
    images = np.stack([digit.image for digit in found])
    size = max(_SMALLEST_BATCH, 1 << (len(images) - 1).bit_length())
    batch = np.zeros((size, *images.shape[1:]), np.uint8)
    batch[: len(images)] = images
    below, _ = run.threshold
    return Reading(
        tuple(
            Digit(
                label=run.classes[int(probabilities.argmax())],
                probabilities=probabilities,
                unsure=digit.is_piece or bool(probabilities.max() < below),
                box=digit.box,
                image=digit.image,
                line=digit.line,
            )
            for digit, probabilities in zip(found, run.predict(batch), strict=False)
        )
    )


def divide(run: "Run", found: Sequence[photos.Digit]) -> list[photos.Digit]:
    """Divide what `photos.find_digits` found where it is several digits that touch.

    That is where the network is unsure that it is one, or it is too wide for one, and
    it can be cut so that each piece is above the threshold. (Where to cut is a guess:
    the pieces count as unsure.)
    """
    below, _ = run.threshold
    divided: list[photos.Digit] = []
    for digit, whole in zip(found, read(run, found).digits, strict=True):
        pieces = photos.divide(digit) if whole.unsure or digit.is_wide else {}
        if pieces:
            assert digit.ink is not None, "it was found in a photograph"
            said = read(run, list(pieces.values())).digits
            probabilities = {
                where: each.probability
                for where, each in zip(pieces, said, strict=True)
                if each.probability >= below
            }
            best = touching.best_division(probabilities, digit.ink.shape[1])
            pieces = {where: pieces[where] for where in best}
        divided.extend(pieces.values() or [digit])
    return divided


def find_threshold(run: "Run") -> tuple[float, str]:
    """Return the probability below which a digit is unsure, and what it is taken from.

    `FALSE_ALARMS` of the run's validation images are below it: their logits are in
    predictions.npz. If that is not there, the packaged network's threshold is taken.
    """
    from mnist_jax.runs.load import PACKAGED

    if run.path == PACKAGED:
        return PACKAGED_THRESHOLD, "its validation images"
    path = RunFolder(run.path.parent).predictions
    try:
        with np.load(path) as arrays:
            logits = arrays[f"val_{run.config.test_weights}"]
    except (OSError, KeyError, ValueError):  # not there, or an older version's
        return PACKAGED_THRESHOLD, (
            "those of the network in the package, since there are no validation logits "
            f"in {path}"
        )
    return quantile(logits), "its validation images"


def quantile(logits: Any) -> float:
    """Return the highest probability that `FALSE_ALARMS` of the images are below.

    Args:
        logits: of validation images, [n, classes].
    """
    highest = np.asarray(jax.nn.softmax(np.asarray(logits), axis=-1)).max(axis=-1)
    return float(np.quantile(highest, FALSE_ALARMS))


def name_of(run: "Run") -> Path | str:
    """Return how a run is called in a line of text."""
    from mnist_jax.runs.load import PACKAGED

    if run.path == PACKAGED:
        return "the LeNet-5 in this package"
    folder, here = run.path.parent, Path.cwd()
    return folder.relative_to(here) if folder.is_relative_to(here) else folder
