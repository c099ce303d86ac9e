"""The digits in a photograph, in the order in which they are read."""

import dataclasses
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Float32, Int, UInt8
from scipy import ndimage

from mnist_jax.data import raster
from mnist_jax.data.centering import center_in_28x28
from mnist_jax.data.raster import PhotoError
from mnist_jax.photos import pictures, sheet
from mnist_jax.photos.ink import find_ink, flatten, widen_thin_strokes

# In sizes of a digit: parts of ink below the first are specks; other parts do not join
# those below the second; those flatter than the third are no digits.
_SPECK, _FRAGMENT, _FLAT = 0.1, 0.45, 0.36
_DUST = 3  # pixels
# Ink whose height is below the first share of its width is a line; ink wider than the
# second number times its height is several digits.
_LINE, _WIDE = 0.15, 1.7
# Edges that are wider than a part of a digit's size, and than some pixels, are blurred.
_BLURRED, _SHARP = 0.075, 4
_SMALLEST = 8  # pixels of the picture
# The ground is a texture if its brightness varies by more than this part of the
# contrast; the ink is one if it is in more pieces.
_UNEVEN, _MOST_PIECES = 0.6, 20
# The gap that a stroke may have, how high a digit of several parts may be, and which
# part of the narrower one's columns they share: digits side by side share fewer.
_GAP, _TALLEST, _SHARED = 0.25, 1.75, 0.4
# A picture has at most this many digits in a row.
_ABREAST = 40
# More parts are a texture.
_MOST_DIGITS = 200


class Box(NamedTuple):
    """Location of a digit, in pixels of the upright picture; right, bottom excluded."""

    left: int
    top: int
    right: int
    bottom: int

    @property
    def height(self) -> int:
        """In pixels."""
        return self.bottom - self.top

    @property
    def size(self) -> int:
        """The longer side, in pixels."""
        return max(self.right - self.left, self.height)


@dataclasses.dataclass(frozen=True, repr=False)
class Digit:
    """A digit that was found in a picture and, after `reading.classify`, read.

    Attributes:
        box: where it is, in pixels of the upright picture.
        image: as a network sees it, bright on dark.
        line: counted from 0.
        doubt: why it is unsure, whatever it looks like to the network, such as "too
            wide": several digits may touch.
        label: the most probable class.
        probabilities: of each class.
        unsure: whether the highest probability is below the threshold, or there is a
            doubt.
    """

    box: Box
    image: UInt8[np.ndarray, "28 28"]
    line: int
    doubt: str = ""
    label: str = ""
    probabilities: Float32[np.ndarray, " classes"] = dataclasses.field(
        default_factory=lambda: np.zeros(0, np.float32)
    )
    unsure: bool = True

    @property
    def probability(self) -> float:
        """Of the most probable class, in 0..1."""
        return float(self.probabilities.max())

    def __repr__(self) -> str:
        unsure = ", unsure" if self.unsure else ""
        return f"<Digit {self.label!r}: probability {self.probability:.3f}{unsure}>"


# A part of the ink: its box, and the labels of the pieces it consists of.
_Part = tuple[Box, list[int]]


def find_digits(source: Any) -> list[Digit]:
    """Find the digits in a picture, line by line and from left to right.

    Args:
        source: a path, a file opened to read bytes, a Pillow image, or an array
            [height, width] or [height, width, 3 or 4], uint8 or floating-point in 0..1.
            Dark digits on light paper, or light ones on a dark ground.

    Raises:
        PhotoError: it is not an image, or too large, or nothing in it can be a digit.
        OSError: the file cannot be read.
    """
    return find_in(*pictures.read(source))


def find_in(
    grey: Float[np.ndarray, "H W"], scale: float, turns: int = 0
) -> list[Digit]:
    """Find the digits in what `pictures.read` returns, turned by quarters.

    Boxes are those in the picture as it was. Raises PhotoError as `find_digits`.
    """
    grey = np.rot90(grey, turns)
    try:
        ink, labels, parts = _segment(sheet.extend(grey))
    except PhotoError:
        ink, labels, parts = _segment(grey)  # a bold 1 may look like a sheet
    digits = []
    for line, parts_of_line in enumerate(_in_lines(parts)):
        for box, members in parts_of_line:
            window = slice(box.top, box.bottom), slice(box.left, box.right)
            alone = np.where(np.isin(labels[window], members), ink[window], 0)
            image = center_in_28x28(widen_thin_strokes(alone))
            doubt = _doubt(box, grey[window], labels[window], scale)
            for side in (grey.shape * 2)[:turns]:  # the height, then the width
                box = Box(side - box.bottom, box.left, side - box.top, box.right)
            full_size = Box(*(round(scale * side) for side in box))
            digits.append(Digit(full_size, image, line, doubt))
    return digits


def _doubt(
    box: Box,
    window: Float[np.ndarray, "h w"],
    labels: Int[np.ndarray, "h w"],
    scale: float,
) -> str:
    """Return why ink may be no digit, or not to be read; empty if nothing is wrong."""
    if box.right - box.left > _WIDE * box.height:
        return "too wide"
    if scale * box.size < _SMALLEST:
        return "too small"
    span = np.ptp(np.quantile(window, [0.02, 0.98]))
    paper = window[~np.asarray(ndimage.binary_dilation(labels > 0, iterations=2))]
    uneven = paper.size and np.ptp(np.quantile(paper, [0.1, 0.9])) > _UNEVEN * span
    if uneven or ndimage.label(labels)[1] > _MOST_PIECES:
        return "a texture"
    slope = np.quantile(ndimage.gaussian_gradient_magnitude(window, 0.7), 0.98)
    edge = span / max(slope, 1e-6)
    return "blurred" if edge > max(_SHARP, _BLURRED * box.size) else ""


def read_prepared(source: Any) -> list[Digit]:
    """Return images that are as MNIST's already; see `data.raster.read_prepared`."""
    images = raster.read_prepared(source)
    return [Digit(Box(0, 0, *image.shape), image, 0) for image in images]


def _segment(
    grey: Float[np.ndarray, "H W"],
) -> tuple[Float[np.ndarray, "H W"], Int[np.ndarray, "H W"], list[_Part]]:
    """Return the ink of a picture, the label of each pixel, and the parts of digits.

    Raises PhotoError if there are no parts that are large enough, or too many.
    """
    ink = find_ink(flatten(grey))
    labels = np.zeros(ink.shape, np.int32)
    ndimage.label(ink > 0, np.ones((3, 3)), output=labels)
    counts = np.bincount(labels.ravel())
    parts: list[_Part] = [
        (Box(columns.start, rows.start, columns.stop, rows.stop), [label])
        for label, (rows, columns) in enumerate(ndimage.find_objects(labels), start=1)
    ]
    parts = _without_surroundings(parts, ink.shape)
    counts = counts[[0, *(members[0] for _, members in parts)]]
    # The size of a digit: half of all ink is in parts that are at least as large. For
    # digits that touch, which are wider than high, the height counts.
    sizes = [min(box.size, 2 * box.height) for box, _ in parts]
    size = float(np.median(np.repeat(sizes, counts[1:])))
    parts = [part for part in parts if part[0].size >= max(_SPECK * size, _DUST)]
    if len(parts) > _MOST_DIGITS:
        raise PhotoError(
            f"has {len(parts)} separate parts: a texture, not digits on paper"
        )
    parts = _join(parts, size)
    parts = [
        (box, members)
        for box, members in parts
        if box.height >= max(_FLAT * size, _LINE * (box.right - box.left))
    ]
    if not parts:
        raise PhotoError("has no digit in it: there are only specks or lines of ink")
    return ink, labels, parts


def _without_surroundings(parts: list[_Part], shape: tuple[int, ...]) -> list[_Part]:
    """Leave out what touches two sides of the picture, if several digits remain."""
    inner = [
        (box, members)
        for box, members in parts
        if sum(a == b for a, b in zip(box, (0, 0, *shape[::-1]), strict=True)) < 2
    ]
    least = max(_SMALLEST, max(shape) / _ABREAST)
    return inner if sum(box.size >= least for box, _ in inner) > 1 else parts


def _join(parts: list[_Part], size: float) -> list[_Part]:
    """Unite the parts of digits whose strokes do not touch."""
    done: list[_Part] = []
    while parts:
        parts = sorted(parts, key=lambda part: part[0].size)
        box, members = parts.pop(0)
        others = [part for part in parts if _belong_together(box, part[0], size)]
        if others:
            nearest = min(others, key=lambda part: _union(box, part[0]).size)
            parts.remove(nearest)
            parts.append((_union(box, nearest[0]), members + nearest[1]))
        else:
            done.append((box, members))
    return done


def _belong_together(small: Box, other: Box, size: float) -> bool:
    """Return whether two parts belong to one digit; remnants of lines do not."""
    if other.size < _FRAGMENT * size:
        return False
    union = _union(small, other)
    if union.height > _TALLEST * size:
        return False
    shared = min(small.right, other.right) - max(small.left, other.left)
    narrower = min(small.right - small.left, other.right - other.left)
    above = max(small.top, other.top) - min(small.bottom, other.bottom)
    return shared > _SHARED * narrower and above <= _GAP * size


def _union(a: Box, b: Box) -> Box:
    return Box(*map(min, a[:2], b[:2]), *map(max, a[2:], b[2:]))


def _in_lines(parts: list[_Part]) -> list[list[_Part]]:
    """Divide digits into lines from top to bottom, each from left to right.

    The lines have the tilt that makes them fewest, and then straightest.
    """
    candidates = [_lines_at(slope, parts) for slope in np.tan(pictures.TILTS)]
    lines, _ = min(candidates, key=lambda found: (len(found[0]), found[1]))
    return [sorted(line, key=lambda part: part[0].left) for line in lines]


def _lines_at(slope: float, parts: list[_Part]) -> tuple[list[list[_Part]], float]:
    """Divide digits into lines of one slope; return their distances from these too."""
    left, top, right, bottom = np.array([box for box, _ in parts]).T
    middles = (top + bottom - slope * (left + right)) / 2
    heights = bottom - top
    lines: list[list[int]] = []
    for part in np.argsort(middles):
        last = lines[-1] if lines else []
        if last and middles[part] < middles[last].mean() + heights[last].mean() / 2:
            last.append(part)
        else:
            lines.append([part])
    distances = sum(len(line) * float(np.var(middles[line])) for line in lines)
    return [[parts[part] for part in line] for line in lines], distances
