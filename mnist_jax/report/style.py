"""Size, fonts and colours of all figures.

Only matplotlib's object-oriented interface is used: without pyplot there are no global
figures and no backend to choose. Drawing functions are decorated with
`@matplotlib.rc_context(STYLE)`; the layout is matplotlib's constrained one.
"""

import functools
import itertools
from collections.abc import Sequence
from typing import Any, NamedTuple, SupportsInt

import numpy as np
from matplotlib import font_manager
from matplotlib.axes import Axes
from matplotlib.figure import Figure

WIDTH = 8.0
"""Inches; fills the column of a README page."""
DPI = 120
RUN_LENGTH = 36
"""Characters of a run's name in a title; longer ones are cut."""
_LINE_LENGTH = 100

# Okabe and Ito's palette: distinguishable with any colour vision, and in grey.
BLUE = "#0072B2"
VERMILION = "#D55E00"
INK = "#1f2328"
MUTED = "#636c76"
POLE = "#a0a8b0"
HAIRLINE = "#d8dee4"
# Without its yellow, which is too pale for lines.
_COLORS = (BLUE, VERMILION, "#009E73", "#CC79A7", "#56B4E9", "#E69F00", INK)
_LINES = (("-", "o"), ("--", "s"), (":", "^"))

STYLE: dict[Any, Any] = {
    "font.family": "DejaVu Sans",  # ships with matplotlib, so the same everywhere
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.edgecolor": HAIRLINE,
    "axes.labelcolor": MUTED,
    "axes.linewidth": 0.8,
    "figure.constrained_layout.h_pad": 0.07,
    "grid.color": HAIRLINE,
    "grid.linewidth": 0.6,
    "image.cmap": "gray_r",
    "image.interpolation": "nearest",
    "text.color": INK,
    "text.parse_math": False,  # a $ in the name of a class is a $
    "xtick.color": HAIRLINE,
    "xtick.labelcolor": MUTED,
    "xtick.labelsize": 8,
    "ytick.color": HAIRLINE,
    "ytick.labelcolor": MUTED,
    "ytick.labelsize": 8,
}


class About(NamedTuple):
    """What a figure is about: for its title, and the names of classes in it."""

    run: str
    subject: str
    """What the images are, such as "test images of mnist"."""
    classes: Sequence[str]

    def name(self, label: SupportsInt, limit: int) -> str:
        """Return the name of a class, cut to a limit."""
        return drawable(self.classes[int(label)], limit)


def subplots(
    rows: int, columns: int, height: float, **options: Any
) -> tuple[Figure, np.ndarray]:
    """Return a figure of `WIDTH` x `height` inches, and its axes [rows, columns]."""
    figure = Figure(figsize=(WIDTH, height), dpi=DPI, layout="constrained")
    return figure, figure.subplots(rows, columns, squeeze=False, **options)


def set_title(figure: Figure, run: str, title: str, note: str = "") -> None:
    """Write "run: title" at the top left of a figure, and a note below it."""
    text = f"{drawable(run, RUN_LENGTH)}: {drawable(title, _LINE_LENGTH)}"
    text += f"\n{drawable(note, _LINE_LENGTH)}" if note else ""
    figure.suptitle(text, x=0.01, ha="left", fontsize=9.5, linespacing=1.5)


def line_styles(count: int) -> list[dict[str, Any]]:
    """Return colour, dashes and marker of each of some lines; up to 21 differ."""
    kinds = itertools.cycle(itertools.product(_LINES, _COLORS))
    return [
        {"color": color, "linestyle": dash, "linewidth": 1.6, "marker": marker}
        for (dash, marker), color in itertools.islice(kinds, count)
    ]


def plain(axes: Axes) -> None:
    """Leave only the grid and two lines of the axes, without tick marks."""
    axes.tick_params(which="both", length=0, pad=6)
    axes.grid(True)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def drawable(text: str, limit: int = 1000) -> str:
    """Return a text for a figure, cut to `limit` characters.

    A character that the font lacks is shown as its code point, such as U+3042.
    """
    known = _characters()
    text = "".join(c if ord(c) in known else f"U+{ord(c):04X}" for c in text)
    return text if len(text) <= limit else text[: limit - 1].rstrip() + "…"


@functools.cache
def font_path() -> str:
    """Return the file of the font, which comes with matplotlib."""
    return font_manager.findfont(STYLE["font.family"])


@functools.cache
def _characters() -> frozenset[int]:
    """Return the code points that the font can draw."""
    return frozenset(font_manager.get_font(font_path()).get_charmap())
