"""What all figures share: size, fonts, colours, and layout in inches.

Matplotlib's object-oriented side only: no pyplot, hence no global figures and no choice
of a backend. Decorate a drawing function with `@matplotlib.rc_context(STYLE)`.
"""

from typing import Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.textpath import TextPath

WIDTH = 8.0
"""Inches: fills the column of a README page."""
DPI = 120
RUN_LENGTH = 36
"""Characters of a run's name in a title; longer ones are cut."""

# Okabe and Ito's palette: told apart with any kind of colour vision, and in grey.
BLUE = "#0072B2"
VERMILION = "#D55E00"
INK = "#1f2328"
MUTED = "#636c76"
POLE = "#a0a8b0"
HAIRLINE = "#d8dee4"

STYLE: dict[Any, Any] = {
    "font.family": "DejaVu Sans",  # Comes with matplotlib: the same on every machine.
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.labelsize": 9,
    "axes.edgecolor": HAIRLINE,
    "axes.facecolor": "white",
    "axes.labelcolor": MUTED,
    "axes.linewidth": 0.8,
    "axes.grid": False,
    "figure.facecolor": "white",
    "grid.color": HAIRLINE,
    "grid.linewidth": 0.6,
    "image.interpolation": "nearest",
    "legend.fontsize": 9,
    "text.color": INK,
    "text.usetex": False,
    "xtick.color": HAIRLINE,
    "xtick.labelcolor": MUTED,
    "xtick.labelsize": 8,
    "ytick.color": HAIRLINE,
    "ytick.labelcolor": MUTED,
    "ytick.labelsize": 8,
}


def new_figure(height: float) -> Figure:
    """Return an empty figure of `WIDTH` x `height` inches on an Agg canvas."""
    figure = Figure(figsize=(WIDTH, height), dpi=DPI)
    FigureCanvasAgg(figure)
    return figure


def place_axes(
    figure: Figure, *, left: float, top: float, width: float, height: float
) -> Axes:
    """Add axes at a distance from the figure's left and upper edge, all in inches."""
    total_width, total_height = figure.get_size_inches()
    bottom = total_height - top - height
    return figure.add_axes(
        (
            left / total_width,
            bottom / total_height,
            width / total_width,
            height / total_height,
        )
    )


def place_text(
    figure: Figure, *, left: float, top: float, text: str, **style: Any
) -> None:
    """Write text whose upper left corner lies at these inches from the upper left."""
    total_width, total_height = figure.get_size_inches()
    x, y = left / total_width, 1 - top / total_height
    figure.text(x, y, text, ha="left", va="top", **style)


def text_width(text: str, size: float) -> float:
    """Return the width in inches of a line of text set at `size` points."""
    return TextPath((0, 0), text, size=size).get_extents().width / 72 if text else 0.0


def shorten(text: str, limit: int) -> str:
    """Return the text, cut to `limit` characters with an ellipsis if it is longer."""
    return text if len(text) <= limit else text[: limit - 1].rstrip() + "…"
