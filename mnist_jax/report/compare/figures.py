"""The pictures of a comparison: data in, matplotlib Figure out."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
from jaxtyping import UInt8
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import EngFormatter, LogLocator, MaxNLocator, NullFormatter
from numpy import ndarray

from mnist_jax.evaluation import wilson_interval
from mnist_jax.report.compare.answers import Answers
from mnist_jax.report.compare.groups import Group
from mnist_jax.report.compare.tables import labels
from mnist_jax.report.evaluated.figures import line_styles
from mnist_jax.report.style import (
    DPI,
    MUTED,
    RUN_LENGTH,
    STYLE,
    WIDTH,
    drawable,
    set_title,
    subplots,
)

_PER_LINE, _SHOWN_OF_ALL, _SHOWN_OF_ONE = 8, 16, 8


def spread(group: Group) -> tuple[float, float]:
    """Return the 95 % interval of a group's accuracy: over seeds, or of its only run.

    A single seed does not show how much seeds differ: its Wilson interval says how
    exactly the images measure the accuracy of this run.
    """
    from scipy import special

    n = len(group.runs)
    if group.sd is not None:
        half = float(special.stdtrit(n - 1, 0.975)) * group.sd / math.sqrt(n)
        return group.mean - half, group.mean + half
    tested = group.first.results.get("test", {})
    tested = tested.get(group.weights, tested)
    examples = tested.get("examples", 10_000)
    return wilson_interval(round(group.mean * examples), examples)


@matplotlib.rc_context(STYLE)
def accuracy(groups: Sequence[Group]) -> Figure:
    """Draw the accuracy of each experiment, its seeds and its interval."""
    figure, ((axes,),) = subplots(1, 1, 1.2 + 0.32 * len(groups))
    note = "dots: seeds; bars: mean and 95 % interval of the mean over seeds or, with "
    note += "one seed (hollow), of its accuracy"
    set_title(figure, "Comparison", "accuracy in per cent", note)
    for row, (group, style) in enumerate(
        zip(groups, line_styles(len(groups)), strict=True)
    ):
        color = style["color"]
        seeds = [100 * each for each in group.accuracies]
        axes.plot([100 * end for end in spread(group)], [row, row], color=color, lw=2)
        mean = [100 * group.mean]
        axes.plot(mean, [row], "|", color=color, ms=12, markeredgewidth=2)
        fill = color if len(seeds) > 1 else "white"
        rows = [row] * len(seeds)
        axes.plot(seeds, rows, "o", color=color, markerfacecolor=fill, ms=4.5)
    axes.set_ylim(len(groups) - 0.5, -0.5)
    axes.set_yticks(range(len(groups)), _names(groups))
    _plain(axes)
    axes.grid(visible=False, axis="y")
    return figure


@matplotlib.rc_context(STYLE)
def cost(groups: Sequence[Group]) -> Figure:
    """Draw the accuracy over the number of parameters and over the training time."""
    figure, (panels,) = subplots(1, 2, 3.4 + 0.2 * math.ceil(len(groups) / 2))
    set_title(figure, "Comparison", "accuracy in per cent, and its cost")
    parameters = [next(iter(group.numbers("parameters")), None) for group in groups]
    seconds = [group.median_seconds for group in groups]
    styles = line_styles(len(groups))
    for axes, title, values in (
        (panels[0], "parameters", parameters),
        (panels[1], "seconds of training (hardware: see the table)", seconds),
    ):
        for group, style, value in zip(groups, styles, values, strict=True):
            if value:
                interval = [100 * end for end in spread(group)]
                axes.plot([value, value], interval, color=style["color"], lw=1.5)
                mean = [100 * group.mean]
                axes.plot([value], mean, **style | {"linestyle": ""})
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter(EngFormatter(sep=""))
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.set_xlabel(title)
        _plain(axes)
    _legend(figure, _names(groups), styles)
    return figure


@matplotlib.rc_context(STYLE)
def curves(groups: Sequence[Group], epochs: Mapping[str, dict[int, float]]) -> Figure:
    """Draw the validation error rate of experiments over their epochs.

    Args:
        groups: all of them, for the names and colours.
        epochs: of each group that is drawn, by its key, the accuracy by epoch.
    """
    figure, ((axes,),) = subplots(1, 1, 3.8 + 0.2 * math.ceil(len(epochs) / 2))
    set_title(
        figure, "Comparison", "validation error rate in per cent, over the epochs"
    )
    styles = line_styles(len(groups))
    shown = [
        one
        for one in zip(groups, _names(groups), styles, strict=True)
        if one[0].key in epochs
    ]
    for group, _, style in shown:
        curve = epochs[group.key]
        rates = [100 * (1 - value) for value in curve.values()]
        axes.plot(list(curve), rates, markersize=3, **style)
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel("epoch")
    _plain(axes)
    _legend(figure, [name for _, name, _ in shown], [style for *_, style in shown])
    return figure


@matplotlib.rc_context(STYLE)
def mistakes(found: Answers, images: UInt8[ndarray, "n h w 1"]) -> Figure:
    """Draw images that all networks get wrong, and those that only one does."""
    classes = found.runs[0].classes
    rows = [(f"by all {len(found.names)}", 0, found.wrong_by_all(), _SHOWN_OF_ALL)]
    for place, name in enumerate(found.names):
        alone = found.wrong_by_only(place)
        rows.append((f"by {name} alone", place, alone, _SHOWN_OF_ONE))
    lines = [
        max(1, -(-min(len(which), shown) // _PER_LINE)) for *_, which, shown in rows
    ]
    heights = [0.25 + count for count in lines]
    size = WIDTH, 0.6 + sum(heights)
    figure = Figure(figsize=size, dpi=DPI, layout="constrained")
    note = "true class → prediction (of the first network, where all are wrong)"
    set_title(figure, "Comparison", "the first mistakes of all and of each alone", note)
    parts: Any = figure.subfigures(len(rows), 1, height_ratios=heights)
    for part, count, (text, place, which, shown) in zip(
        parts, lines, rows, strict=True
    ):
        text = drawable(f"{len(which)} wrong {text}")
        part.suptitle(text, x=0.01, ha="left", fontsize=8.5, color=MUTED)
        grid = part.subplots(count, _PER_LINE, squeeze=False).ravel()
        for axes in grid:
            axes.set_axis_off()
        for axes, index in zip(grid, which[:shown], strict=False):
            axes.imshow(images[index, ..., 0], vmin=0, vmax=255)
            answer = found.labels[index], found.predicted[place, index]
            title = " → ".join(classes[k] for k in answer)
            axes.set_title(drawable(title, 16), fontsize=8, pad=3)
    return figure


def _names(groups: Sequence[Group]) -> list[str]:
    """Return names for pictures, with their differences only where they are needed."""
    names = [group.first.name for group in groups]
    return [
        drawable(label if names.count(name) > 1 else name, RUN_LENGTH)
        for name, label in zip(names, labels(groups)[0], strict=True)
    ]


def _legend(
    figure: Figure, names: Sequence[str], styles: Sequence[dict[str, Any]]
) -> None:
    handles = [Line2D([], [], **style) for style in styles]
    figure.legend(
        handles, names, loc="outside lower left", ncols=2, frameon=False, handlelength=3
    )


def _plain(axes: Axes) -> None:
    axes.tick_params(which="both", length=0)
    axes.grid(True)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
