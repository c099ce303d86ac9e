"""The pictures of a comparison: data in, matplotlib Figure out."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
from jaxtyping import UInt8
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import EngFormatter, LogLocator, MaxNLocator, NullFormatter
from numpy import ndarray

from mnist_jax.evaluation import wilson_interval
from mnist_jax.report.compare.answers import Answer, wrong_by_all, wrong_by_only
from mnist_jax.report.compare.groups import Group
from mnist_jax.report.compare.tables import labels
from mnist_jax.report.evaluated.figures import line_styles, plain
from mnist_jax.report.record import Record
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


def spread(group: Group) -> list[float]:
    """Return the 95 % interval of a group's accuracy in per cent.

    It is over seeds; a single seed has the Wilson interval of its accuracy.
    """
    from scipy import special

    n = len(group.runs)
    if group.sd is not None:
        half = float(special.stdtrit(n - 1, 0.975)) * group.sd / math.sqrt(n)
        return [100 * (group.mean - half), 100 * (group.mean + half)]
    tested = group.first.results.get("test", {})
    examples = tested.get(group.weights, tested).get("examples", 10_000)
    return [
        100 * end for end in wilson_interval(round(group.mean * examples), examples)
    ]


@matplotlib.rc_context(STYLE)
def accuracy(groups: Sequence[Group]) -> Figure:
    """Draw the accuracy of each experiment, its seeds and its interval."""
    figure, ((axes,),) = subplots(1, 1, 1.2 + 0.32 * len(groups))
    note = "dots: seeds; bars: mean and 95 % interval of the mean over seeds or, with "
    note += "one seed (hollow), of its accuracy"
    set_title(figure, "Comparison", "accuracy in per cent", note)
    for row, (group, (_, style)) in enumerate(
        zip(groups, _styles(groups), strict=True)
    ):
        color, seeds = style["color"], [100 * each for each in group.accuracies]
        axes.plot(spread(group), [row, row], color=color, lw=2)
        axes.plot([100 * group.mean], [row], "|", color=color, ms=12, mew=2)
        fill = color if len(seeds) > 1 else "white"
        axes.plot(seeds, [row] * len(seeds), "o", color=color, mfc=fill, ms=4.5)
    axes.set_ylim(len(groups) - 0.5, -0.5)
    axes.set_yticks(range(len(groups)), [name for name, _ in _styles(groups)])
    plain(axes)
    axes.grid(visible=False, axis="y")
    return figure


@matplotlib.rc_context(STYLE)
def cost(groups: Sequence[Group]) -> Figure:
    """Draw the accuracy over the number of parameters and over the training time."""
    figure, (panels,) = subplots(1, 2, 3.4 + 0.2 * math.ceil(len(groups) / 2))
    set_title(figure, "Comparison", "accuracy in per cent, and its cost")
    costs = {
        "parameters": [next(iter(g.numbers("parameters")), None) for g in groups],
        "seconds of training (hardware: see the table)": [
            group.median_seconds for group in groups
        ],
    }
    for axes, (title, values) in zip(panels, costs.items(), strict=True):
        for group, (_, style), value in zip(
            groups, _styles(groups), values, strict=True
        ):
            if value:
                axes.plot([value, value], spread(group), color=style["color"], lw=1.5)
                axes.plot([value], [100 * group.mean], **style | {"linestyle": ""})
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter(EngFormatter(sep=""))
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.set_xlabel(title)
        plain(axes)
    _legend(figure, _styles(groups))
    return figure


@matplotlib.rc_context(STYLE)
def curves(groups: Sequence[Group], runs: Mapping[str, Record | None]) -> Figure:
    """Draw the validation error rate of experiments over their epochs.

    Args:
        groups: all of them, for the names and colours.
        runs: by the key of its group, the run whose curve is drawn; None for none.
    """
    shown = [
        (run, *style)
        for group, style in zip(groups, _styles(groups), strict=True)
        if (run := runs[group.key])
    ]
    figure, ((axes,),) = subplots(1, 1, 3.8 + 0.2 * math.ceil(len(shown) / 2))
    set_title(
        figure, "Comparison", "validation error rate in per cent, over the epochs"
    )
    for run, _, style in shown:
        lines = [line for line in run.epochs if line["split"] == "val"]
        rates = [100 * (1 - line["accuracy"]) for line in lines]
        axes.plot([line["epoch"] for line in lines], rates, ms=3, **style)
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel("epoch")
    plain(axes)
    _legend(figure, [style for _, *style in shown])
    return figure


@matplotlib.rc_context(STYLE)
def mistakes(answers: list[Answer], images: UInt8[ndarray, "n h w 1"]) -> Figure:
    """Draw images that all networks get wrong, and those that only one does."""
    everyone = wrong_by_all(answers)[:_SHOWN_OF_ALL]
    rows = [(f"wrong by all {len(answers)}", answers[0], everyone)]
    for one in answers:
        alone = wrong_by_only(answers, one)
        text = f"wrong by {one.name} alone ({len(alone)})"
        rows.append((text, one, alone[:_SHOWN_OF_ONE]))
    lines = [max(1, math.ceil(len(shown) / _PER_LINE)) for *_, shown in rows]
    heights = [0.25 + count for count in lines]
    size = WIDTH, 0.6 + sum(heights)
    figure = Figure(figsize=size, dpi=DPI, layout="constrained")
    note = "true class → prediction (of the first network, where all are wrong)"
    set_title(figure, "Comparison", "the first mistakes of all and of each alone", note)
    parts: Any = figure.subfigures(len(rows), 1, height_ratios=heights)
    for part, count, (text, one, shown) in zip(parts, lines, rows, strict=True):
        part.suptitle(drawable(text), x=0.01, ha="left", fontsize=8.5, color=MUTED)
        grid = part.subplots(count, _PER_LINE, squeeze=False).ravel()
        for axes in grid:
            axes.set_axis_off()
        for axes, index in zip(grid, shown, strict=False):
            axes.imshow(images[index, ..., 0], vmin=0, vmax=255)
            answer = (
                one.run.classes[one.labels[index]],
                one.run.classes[one.predicted[index]],
            )
            axes.set_title(drawable(" → ".join(answer), 16), fontsize=8, pad=3)
    return figure


def _styles(groups: Sequence[Group]) -> list[tuple[str, dict[str, Any]]]:
    """Return the name of each group in pictures, and the style of its line."""
    names = [drawable(label, RUN_LENGTH) for label in labels(groups)]
    return list(zip(names, line_styles(len(groups)), strict=True))


def _legend(figure: Figure, styles: Sequence[Sequence[Any]]) -> None:
    handles = [Line2D([], [], label=name, **style) for name, style in styles]
    figure.legend(
        handles=handles,
        loc="outside lower left",
        ncols=2,
        frameon=False,
        handlelength=3,
    )
