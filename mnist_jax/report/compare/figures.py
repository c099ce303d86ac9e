"""The pictures of a comparison: data in, matplotlib Figure out."""

import math
from collections.abc import Sequence

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter

from mnist_jax.report import style
from mnist_jax.report.compare.groups import Group, Series


def spread(group: Group) -> list[float]:
    """Return the 95 % interval of a group's accuracy in per cent.

    It is over seeds; a single seed has the Wilson interval of its accuracy.
    """
    from scipy import special

    if group.sd is None:
        tested = group.first.results["test"]
        interval = tested.get(group.weights, tested)["accuracy_interval"]
        return [100 * end for end in interval]
    n = len(group.runs)
    half = float(special.stdtrit(n - 1, 0.975)) * group.sd / math.sqrt(n)
    return [100 * (group.mean - half), 100 * (group.mean + half)]


@matplotlib.rc_context(style.STYLE)
def accuracy(groups: Sequence[Group]) -> Figure:
    """Draw the accuracy of each experiment, its seeds and its interval."""
    figure, ((axes,),) = style.subplots(1, 1, 1.2 + 0.32 * len(groups))
    note = "dots: seeds; bars: mean and its 95 % interval (hollow: of one accuracy)"
    style.set_title(figure, "Comparison", "accuracy in per cent", note)
    styles = style.line_styles(len(groups))
    for row, (group, line) in enumerate(zip(groups, styles, strict=True)):
        color, seeds = line["color"], [100 * each for each in group.accuracies]
        axes.plot(spread(group), [row, row], color=color, lw=2)
        axes.plot([100 * group.mean], [row], "|", color=color, ms=12, mew=2)
        fill = color if len(seeds) > 1 else "white"
        axes.plot(seeds, [row] * len(seeds), "o", color=color, mfc=fill, ms=4.5)
    axes.set_ylim(len(groups) - 0.5, -0.5)
    names = [style.drawable(group.label, style.RUN_LENGTH) for group in groups]
    axes.set_yticks(range(len(groups)), names)
    style.plain(axes)
    axes.grid(visible=False, axis="y")
    return figure


@matplotlib.rc_context(style.STYLE)
def varied(found: Sequence[Series]) -> Figure:
    """Draw error rates over the number that a field of the config has.

    Args:
        found: series of one field.
    """
    figure, ((axes,),) = style.subplots(1, 1, 4.4)
    title = f"error rate by {found[0].field}"
    note = "mean and standard deviation over seeds"
    style.set_title(figure, "Comparison", title, note)
    for each, line in zip(found, style.line_styles(len(found)), strict=True):
        errors = np.array([100 * (1 - group.mean) for group in each.groups])
        sd = np.array([100 * (group.sd or 0) for group in each.groups])
        band = np.maximum(errors - sd, errors / 2), errors + sd
        axes.fill_between(each.values, *band, color=line["color"], alpha=0.15, lw=0)
        name = style.drawable(each.name, style.RUN_LENGTH)
        axes.plot(each.values, errors, **line, ms=4, label=name)
    axes.set(xlabel=found[0].field, ylabel="error rate (%)", yscale="log")
    if min(value for each in found for value in each.values) > 0:
        axes.set_xscale("log")
    for axis in (axes.xaxis, axes.yaxis):
        if axis.get_scale() == "log":
            axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axis.set_minor_formatter(NullFormatter())
        axis.set_major_formatter("{x:g}")
    style.plain(axes)
    axes.legend(frameon=False)
    return figure
