"""Learning curves: loss and error rate of every epoch, side by side.

The error rate is shown instead of the accuracy because on a logarithmic axis both the
step from 97 % to 98 % and the one from 99.4 % to 99.6 % are easy to see. Below both,
the learning rate is on the same axis of epochs.
"""

import itertools
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator, NullLocator

from mnist_jax.report.style import (
    BLUE,
    INK,
    MUTED,
    POLE,
    STYLE,
    VERMILION,
    new_figure,
    place_axes,
    place_text,
    place_title,
    shorten,
    text_width,
)

Row = dict[str, Any]

_SPLITS = {"train": ("training", BLUE), "val": ("validation", VERMILION)}
_PANELS = {
    "Loss": lambda row: row["loss"],
    # Rounded, or 1 - 0.9 would lie a hair above a tenth.
    "Error rate (%)": lambda row: round(100 * (1 - row["accuracy"]), 9),
}
_PANEL_WIDTH, _PANEL_HEIGHT = 3.2, 2.5
_RATE_GAP, _RATE_HEIGHT = 0.4, 0.6
_WIDE_RATES = 20  # times the lowest rate; a larger range is drawn logarithmically
_NO_RATE = 1e-5  # of the largest; less, as at the end of a cosine, is drawn as 0
_FLAG_FONT, _FLAG_HEIGHT = 8, 0.2  # points, inches
_DOTS_UP_TO = 30  # epochs; with more of them dots would run together
# The mark of the best epoch leaves the curve visible.
_RING: dict[str, Any] = {
    "linestyle": "",
    "marker": "o",
    "markersize": 11,
    "markerfacecolor": "none",
    "markeredgecolor": INK,
    "markeredgewidth": 1.3,
    "clip_on": False,
    "zorder": 5,
}


class _Flag(NamedTuple):
    """The name of a phase above the axes, at a pole where the phase begins."""

    name: str
    edge: float  # epoch
    left: float  # inches from the left end of the axes
    row: int  # from the axes upward
    pole: float  # height of the pole above the axes, in rows


@matplotlib.rc_context(STYLE)
def curves(
    rows: Sequence[Row], *, best_epoch: int, monitor: str, run: str, subject: str
) -> Figure:
    """Draw loss and error rate over the epochs, of training and validation.

    Args:
        rows: lines of metrics.jsonl, at least one. A split without lines is left out.
        best_epoch: marked on the curve of the monitor's split.
        monitor: chose the best epoch, for example "val_loss".
        run: the run's name, for the title.
        subject: the data set.
    """
    last = max(row["epoch"] for row in rows)
    flags = _phase_flags(rows, _x_limits(last))
    rates = {
        row["epoch"]: row["learning_rate"] for row in rows if "learning_rate" in row
    }
    top = 0.8 + _FLAG_HEIGHT * (1 + max((flag.row for flag in flags), default=-1))
    bottom = top + _PANEL_HEIGHT
    figure = new_figure(bottom + bool(rates) * (_RATE_GAP + _RATE_HEIGHT) + 0.9)
    place_title(figure, left=0.6, run=run, title=f" on {subject}")
    for number, (title, value_of) in enumerate(_PANELS.items()):
        left = 0.6 + number * (_PANEL_WIDTH + 0.8)
        place_text(figure, left=left, top=0.5, text=title, size=9, color=MUTED)
        size = {"width": _PANEL_WIDTH, "height": _PANEL_HEIGHT}
        axes = place_axes(figure, left=left, top=top, **size)
        floor = _scale_y(axes, np.array([value_of(row) for row in rows]))
        _scale_x(axes, last)
        for split, (name, color) in _SPLITS.items():
            values = {
                row["epoch"]: max(value_of(row), floor)
                for row in rows
                if row["split"] == split
            }
            if values:
                _draw_line(axes, values, label=name, color=color)
            if monitor.startswith(split) and best_epoch in values:
                axes.plot([best_epoch], [values[best_epoch]], **_RING)
        for flag in flags:
            _draw_flag(axes, flag)
        if rates:
            axes.set_xticklabels([])
            axes.set_xlabel("")
            _draw_rates(figure, rates, last, flags, left=left, top=bottom)
    _draw_legend(figure, best_epoch, monitor)
    return figure


def _draw_rates(
    figure: Figure,
    rates: dict[int, float],
    last: int,
    flags: Sequence[_Flag],
    *,
    left: float,
    top: float,
) -> None:
    """Draw the learning rate of each epoch below a panel that ends at `top`."""
    text = {"text": "Learning rate", "size": 8, "color": MUTED}
    place_text(figure, left=left, top=top + 0.18, **text)
    size = {"width": _PANEL_WIDTH, "height": _RATE_HEIGHT}
    axes = place_axes(figure, left=left, top=top + _RATE_GAP, **size)
    values = np.array(list(rates.values()))
    values[values < _NO_RATE * values.max()] = 0
    floor = _scale_y(axes, values, wide=_WIDE_RATES, ticks=3)
    _scale_x(axes, last)
    drawn = dict(zip(rates, np.maximum(values, floor), strict=True))
    _draw_line(axes, drawn, label="learning rate", color=INK)
    for flag in flags:
        axes.axvline(flag.edge, color=POLE, linewidth=0.8, zorder=1)


def phases(rows: Sequence[Row]) -> list[tuple[str, int]]:
    """Return the name and the first epoch of each phase, in order."""
    ordered = sorted(rows, key=lambda row: row["epoch"])
    groups = itertools.groupby(ordered, key=lambda row: row["phase"])
    return [(name, next(group)["epoch"]) for name, group in groups]


def stack_labels(
    starts: Sequence[float], widths: Sequence[float], right_edge: float
) -> list[tuple[float, int]]:
    """Return (left, row) of labels in a line, raised to a free row if they collide.

    A label begins at its start, or further left to end at `right_edge`. Of two labels
    that collide the earlier is higher, so that its pole passes left of the later one.

    Args:
        starts: desired left ends, ascending, 0 or more.
        widths: in the same unit.
        right_edge: where labels must end, unless they are wider than that.
    """
    placed: list[tuple[float, float, int]] = []
    for start, width in reversed(list(zip(starts, widths, strict=True))):
        left = max(0.0, min(start, right_edge - width))
        taken = [
            row
            for other_left, other_right, row in placed
            if other_left < left + width and left < other_right
        ]
        placed.append((left, left + width, max(taken, default=-1) + 1))
    return [(left, row) for left, _, row in reversed(placed)]


def log_ticks(low: float, high: float) -> list[float]:
    """Return round numbers in low..high (0 < low < high) for a logarithmic axis."""
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    decades = math.log10(high / low)
    # On longer axes, fewer ticks per decade and then fewer decades.
    steps = (1, 2, 5) if decades <= 3 else (1,)
    stride = max(1, math.ceil(decades / 8))
    ticks = [
        # Parsed, since 2 * 10.0**-4 is not the number nearest to 0.0002.
        float(f"{step}e{exponent}")
        for exponent in range(first, last + 1, stride)
        for step in steps
    ]
    return [tick for tick in ticks if low <= tick <= high]


def _scale_y(
    axes: Axes, values: np.ndarray, *, wide: float = 10, ticks: int = 10
) -> float:
    """Set the y axis, logarithmic if the values span a wide range.

    A logarithmic axis has no zero: zeros are drawn at the bottom, at a tick labelled 0.

    Args:
        axes: to be scaled.
        values: drawn on them.
        wide: largest value of a linear axis, as a multiple of the lowest above 0.
        ticks: the largest number of ticks above 0.

    Returns:
        The lowest value that can be drawn.
    """
    positive = values[values > 0]
    axes.grid(axis="y")
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(length=0)
    axes.yaxis.set_major_formatter("{x:g}")
    if not positive.size or positive.max() <= wide * positive.min():
        axes.set_ylim(0, 1.08 * positive.max() if positive.size else 1)
        axes.yaxis.set_major_locator(MaxNLocator(min(6, ticks), steps=[1, 2, 5, 10]))
        return 0.0
    has_zeros = positive.size < values.size
    floor = positive.min() / 3 if has_zeros else positive.min()
    axes.set_yscale("log")
    axes.set_ylim(floor / 1.15, positive.max() * 1.15)
    places = log_ticks(positive.min(), positive.max() * 1.15)
    places = places[::-1][:: -(-len(places) // ticks)][::-1]  # with the highest
    labels = [f"{place:g}" for place in places]
    if has_zeros:
        places, labels = [floor, *places], ["0", *labels]
    axes.set_yticks(places, labels)
    axes.yaxis.set_minor_locator(NullLocator())
    return floor


def _x_limits(last: int) -> tuple[float, float]:
    margin = max(0.5, 0.01 * last)
    return 1 - margin, last + margin


def _scale_x(axes: Axes, last: int) -> None:
    axes.set_xlim(*_x_limits(last))
    locator = MaxNLocator(8, integer=True, steps=[1, 2, 5, 10])
    wanted = range(1, last + 1) if last <= 8 else locator.tick_values(1, last)
    axes.set_xticks([tick for tick in wanted if 1 <= tick <= last])
    axes.set_xlabel("epoch", labelpad=3)


def _draw_line(axes: Axes, values: dict[int, float], *, label: str, color: str) -> None:
    axes.plot(
        *zip(*values.items(), strict=True),
        label=label,
        color=color,
        linewidth=1.4 if len(values) <= 100 else 1.0,
        # A single epoch has no line, only a marker.
        linestyle="-" if len(values) > 1 else "",
        marker="o" if len(values) <= _DOTS_UP_TO else "",
        markersize=3.5 if len(values) > 1 else 7,
        clip_on=False,
    )


def _phase_flags(rows: Sequence[Row], x_limits: tuple[float, float]) -> list[_Flag]:
    """Return a flag for each phase; none if there is only one."""
    found = phases(rows)
    if len(found) == 1:
        return []
    low, high = x_limits
    names = [shorten(name, 24) for name, _ in found]
    edges = [low, *(first - 0.5 for _, first in found[1:])]
    starts = [(edge - low) / (high - low) * _PANEL_WIDTH for edge in edges]
    widths = [text_width(name, _FLAG_FONT) + 0.14 for name in names]
    stacked = stack_labels(starts, widths, _PANEL_WIDTH)
    return [
        # A name that the right edge pushed over its pole is written on top of it.
        _Flag(name, edge, left, row, pole=row + (0.9 if left == start else 0.05))
        for name, edge, start, (left, row) in zip(
            names, edges, starts, stacked, strict=True
        )
    ]


def _draw_flag(axes: Axes, flag: _Flag) -> None:
    """Draw a thin pole at the start of the phase, and its name above the axes."""
    base, line = 1.0, _FLAG_HEIGHT / _PANEL_HEIGHT
    axes.plot(
        [flag.edge, flag.edge],
        [0, base + line * flag.pole],
        color=POLE,
        linewidth=0.8,
        transform=axes.get_xaxis_transform(),
        clip_on=False,
        zorder=1,
    )
    axes.text(
        (flag.left + 0.05) / _PANEL_WIDTH,
        base + line * (flag.row + 0.45),
        flag.name,
        size=_FLAG_FONT,
        color=MUTED,
        va="center_baseline",
        transform=axes.transAxes,
        # Hides the pole of an earlier phase if this name was pushed left over it.
        bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.5},
    )


def _draw_legend(figure: Figure, best_epoch: int, monitor: str) -> None:
    handles, _ = figure.axes[0].get_legend_handles_labels()
    chosen_by = monitor.replace("val_", "validation ").replace("train_", "training ")
    label = f"best epoch by {chosen_by}: {best_epoch}"
    handles.append(Line2D([], [], label=label, **_RING))
    where: dict[str, Any] = {"loc": "lower center", "ncols": len(handles)}
    figure.legend(handles=handles, frameon=False, **where)
