"""The pictures of a comparison: data in, matplotlib Figure out."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import matplotlib
import numpy as np
from jaxtyping import UInt8
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from mnist_jax.evaluation import wilson_interval
from mnist_jax.report.comparison.answers import Answers
from mnist_jax.report.comparison.columns import labels
from mnist_jax.report.comparison.groups import Group
from mnist_jax.report.evaluated.figures import line_styles
from mnist_jax.report.style import (
    INK,
    MUTED,
    RUN_LENGTH,
    STYLE,
    WIDTH,
    new_figure,
    place_axes,
    place_text,
)

_SHOWN_OF_ALL, _SHOWN_OF_ONE = 16, 8


class Spread(NamedTuple):
    """The interval of an experiment's accuracy."""

    mean: float
    low: float
    high: float
    seeds: list[float]


def spread(group: Group) -> Spread:
    """Return the mean with its 95 % interval: over seeds, or of the one run's images.

    A single seed does not show how much seeds differ: the Wilson interval
    says how sure the one run's accuracy is.
    """
    from scipy import special

    values = [run.results["test_accuracy"] for run in group.runs]
    mean, sd, n = group.accuracy[:3]
    if sd is not None:
        half = float(special.stdtrit(n - 1, 0.975)) * sd / math.sqrt(n)
        return Spread(mean, mean - half, mean + half, values)
    found = group.first.results["test"][group.weights]
    examples = found.get("examples", 10_000)
    return Spread(mean, *wilson_interval(round(mean * examples), examples), values)


@matplotlib.rc_context(STYLE)
def accuracy(groups: Sequence[Group]) -> Figure:
    """Draw the accuracy of each experiment, its seeds and its interval."""
    row_height, left, top = 0.32, 2.9, 0.85
    figure = new_figure(top + row_height * len(groups) + 0.4)
    place_text(figure, left=0.2, top=0.16, text="Accuracy in per cent", size=10)
    note = "dots: seeds; bars: mean and 95 % interval of the mean over seeds, or, "
    note += "where there is one seed (hollow), of its accuracy on the images"
    place_text(figure, left=0.2, top=0.42, text=note, size=8, color=MUTED)
    axes = place_axes(
        figure,
        left=left,
        top=top,
        width=WIDTH - left - 0.3,
        height=row_height * len(groups),
    )
    names = short_names(groups)
    for row, (group, style) in enumerate(
        zip(groups, line_styles(len(groups)), strict=True)
    ):
        found, color = spread(group), style["color"]
        bounds = [100 * found.low, 100 * found.high]
        axes.plot(bounds, [row, row], color=color, linewidth=2)
        mean = [100 * found.mean]
        axes.plot(mean, [row], "|", color=color, markersize=12, markeredgewidth=2)
        seeds = [100 * value for value in found.seeds]
        fill = color if len(seeds) > 1 else "white"
        axes.plot(
            seeds, [row] * len(seeds), "o", color=color, markerfacecolor=fill, ms=4.5
        )
    axes.set_ylim(len(groups) - 0.5, -0.5)
    axes.set_yticks(range(len(groups)), names)
    axes.tick_params(length=0)
    axes.tick_params(axis="y", labelcolor=INK, labelsize=8.5)
    axes.grid(True, axis="x")
    axes.spines[["top", "right", "left"]].set_visible(False)
    return figure


@matplotlib.rc_context(STYLE)
def cost(groups: Sequence[Group]) -> Figure:
    """Draw the accuracy over the number of parameters and over the training time."""
    figure, top = _with_legend(groups, "Accuracy in per cent, by what it costs", 2.9)
    panels = {
        "parameters": [next(iter(g.numbers("parameters")), None) for g in groups],
        "seconds of training (hardware: see the table)": [
            group.median_seconds for group in groups
        ],
    }
    styles = line_styles(len(groups))
    for number, (title, costs) in enumerate(panels.items()):
        axes = place_axes(
            figure, left=0.65 + number * 3.85, top=top, width=3.2, height=2.3
        )
        for group, value, style in zip(groups, costs, styles, strict=True):
            if value is None:
                continue
            found = spread(group)
            low, high = 100 * found.low, 100 * found.high
            color = style["color"]
            axes.plot([value, value], [low, high], color=color, linewidth=1.5)
            axes.plot(
                [value], [100 * found.mean], marker=style["marker"], color=color, ms=6
            )
        _log_axis(axes)
        axes.set_xlabel(title)
    return figure


@matplotlib.rc_context(STYLE)
def curves(groups: Sequence[Group], epochs: dict[int, dict[int, float]]) -> Figure:
    """Draw the validation error rate of experiments over their epochs.

    Args:
        groups: all of them, for the names and colours.
        epochs: of each place that is drawn, the accuracy by epoch.
    """
    title = "Validation error rate in per cent, over the epochs"
    figure, top = _with_legend(groups, title, 3.6, only=set(epochs))
    axes = place_axes(figure, left=0.65, top=top, width=7.0, height=3.0)
    for place, by_epoch in epochs.items():
        style = line_styles(len(groups))[place]
        rates = [100 * (1 - value) for value in by_epoch.values()]
        axes.plot(list(by_epoch), rates, markersize=3, **style)
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel("epoch")
    axes.tick_params(which="both", length=0)
    axes.grid(True)
    axes.spines[["top", "right"]].set_visible(False)
    return figure


@matplotlib.rc_context(STYLE)
def mistakes(found: Answers, images: UInt8[np.ndarray, "n 28 28 1"]) -> Figure:
    """Draw images that all networks get wrong, and those that only one does."""
    every = found.wrong_by_all()
    rows = [(f"wrong by all {len(found.names)}", every, _SHOWN_OF_ALL)]
    for place, name in enumerate(found.names):
        alone = found.wrong_by_only(place)
        rows.append((f"wrong by {_cut(name)} alone", alone, _SHOWN_OF_ONE))
    per_line, size, line_height, head = 8, 0.72, 1.02, 0.34
    lines = [max(1, -(-min(len(which), shown) // per_line)) for _, which, shown in rows]
    heights = [head + line_height * count for count in lines]
    figure = new_figure(0.5 + sum(heights))
    title = "Who errs where: true digit → answer (of the first network, where all err)"
    place_text(figure, left=0.2, top=0.16, text=title, size=10)
    top = 0.5
    for number, ((text, which, shown), height) in enumerate(
        zip(rows, heights, strict=True)
    ):
        count = f"{len(which)} image{'' if len(which) == 1 else 's'} {text}"
        if len(which) > shown:
            count += f", the first {shown}"
        place_text(figure, left=0.2, top=top, text=count, size=9, color=MUTED)
        for place, index in enumerate(which[:shown]):
            line, column = divmod(place, per_line)
            axes = place_axes(
                figure,
                left=0.2 + column * 0.96,
                top=top + head + 0.08 + line * line_height,
                width=size,
                height=size,
            )
            axes.imshow(images[index, ..., 0], cmap="gray_r", vmin=0, vmax=255)
            axes.set_xticks([])
            axes.set_yticks([])
            answer = found.predicted[max(0, number - 1), index]
            axes.set_title(f"{found.labels[index]} → {answer}", fontsize=8.5, pad=3)
        top += height
    return figure


def short_names(groups: Sequence[Group]) -> list[str]:
    """Return names for pictures: what tells experiments apart, cut if it is long."""
    names = [group.first.name for group in groups]
    return [
        _cut(str(label) if names.count(name) > 1 else name)
        for name, label in zip(names, labels(groups)[0], strict=True)
    ]


def _cut(text: str) -> str:
    """Return a text of limited length, whose end says more than its middle."""
    if len(text) <= RUN_LENGTH:
        return text
    return f"{text[: RUN_LENGTH // 3]}…{text[RUN_LENGTH // 3 + 1 - RUN_LENGTH :]}"


def _with_legend(
    groups: Sequence[Group], title: str, height: float, only: set[int] | None = None
) -> tuple[Figure, float]:
    """Return a figure with a legend of experiments, and where it ends, in inches."""
    names = short_names(groups)
    shown = [
        (name, style)
        for place, (name, style) in enumerate(
            zip(names, line_styles(len(groups)), strict=True)
        )
        if only is None or place in only
    ]
    lines = -(-len(shown) // 2)
    top = 0.6 + 0.21 * lines
    figure = new_figure(top + height)
    place_text(figure, left=0.2, top=0.16, text=title, size=10)
    handles = [Line2D([], [], **style) for _, style in shown]
    figure.legend(
        handles,
        [name for name, _ in shown],
        loc="upper left",
        bbox_to_anchor=(0.2 / WIDTH, 1 - 0.38 / (top + height)),
        ncols=2,
        frameon=False,
        borderpad=0,
        handlelength=2.5,
    )
    return figure, top


def _log_axis(axes: Axes) -> None:
    axes.set_xscale("log")
    low, high = axes.get_xlim()
    subs = (1,) if high > 50 * low else (1, 2, 5)
    axes.xaxis.set_major_locator(LogLocator(subs=subs))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.tick_params(which="both", length=0)
    axes.grid(True)
    axes.spines[["top", "right"]].set_visible(False)
