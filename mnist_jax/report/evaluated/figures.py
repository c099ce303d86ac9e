"""The picture of an evaluation: data in, matplotlib Figure out."""

from collections.abc import Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator, StrMethodFormatter

from mnist_jax.evaluation import wilson_interval
from mnist_jax.report import style


@matplotlib.rc_context(style.STYLE)
def reliability(runs: Sequence[dict[str, Any]]) -> Figure:
    """Draw accuracy over confidence, of a network as it is and with its temperature.

    Args:
        runs: entries of an evaluation; each has a row.
    """
    figure, grid = style.subplots(
        2 * len(runs), 2, 0.4 + 4.6 * len(runs), height_ratios=[5, 1] * len(runs)
    )
    title = "accuracy by confidence, with 95 % intervals"
    style.set_title(figure, runs[0]["name"] if len(runs) == 1 else "Networks", title)
    for row, run in enumerate(runs):
        found = run["calibration"]
        panels = {"": "as it is"}
        if found["temperature"] is not None:
            panels["_scaled"] = f"with temperature {found['temperature']:.3g}"
        pairs = grid[2 * row : 2 * row + 2].T
        for axes in pairs[len(panels) :].flat:
            axes.set_axis_off()
        for pair, (ending, head) in zip(pairs, panels.items(), strict=False):
            title = f"{head}: ECE {found[f'ece{ending}']:.4f}, "
            title += f"loss {found[f'loss{ending}']:.4f}"
            if len(runs) > 1:
                title = f"{style.drawable(run['name'], style.RUN_LENGTH)}\n{title}"
            pair[0].set_title(title, fontsize=8.5, loc="left")
            _draw_bins(pair[0], pair[1], found[f"bins{ending}"])
    return figure


def _draw_bins(axes: Axes, below: Axes, bins: Sequence[dict[str, Any]]) -> None:
    """Draw the dots of one panel, and below them the number of images of each."""
    axes.plot([0, 1], [0, 1], color=style.POLE, linewidth=1)
    filled = [one for one in bins if one["count"]]
    for one in filled:
        right = round(one["accuracy"] * one["count"])
        axes.plot(
            [one["confidence"]] * 2, wilson_interval(right, one["count"]), style.BLUE
        )
    dots = [(one["confidence"], one["accuracy"]) for one in filled]
    axes.plot(
        *zip(*dots, strict=True), "o", color=style.BLUE, markersize=5, clip_on=False
    )
    middles = [(one["from"] + one["to"]) / 2 for one in bins]
    width = 0.8 * (bins[0]["to"] - bins[0]["from"])
    below.bar(middles, [one["count"] for one in bins], width, color=style.BLUE)
    below.set_yscale("log")
    below.set_ylim(0.7, 2 * max(one["count"] for one in bins))
    below.yaxis.set_minor_locator(NullLocator())
    below.yaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    axes.set_ylabel("accuracy")
    below.set_ylabel("images")
    below.set_xlabel("confidence")
    for one in (axes, below):
        one.set_xlim(0, 1)
        one.set_xticks(np.linspace(0, 1, 6))
        style.plain(one)
    axes.set_ylim(0, 1)
    axes.set_yticks(np.linspace(0, 1, 6))
    axes.set_aspect("equal")
