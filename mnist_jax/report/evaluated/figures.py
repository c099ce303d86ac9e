"""The pictures of an evaluation: data in, matplotlib Figure out."""

import itertools
from collections.abc import Sequence
from typing import Any

import matplotlib
import numpy as np
from jaxtyping import UInt8
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullLocator

from mnist_jax.data.corruptions import CORRUPTIONS, STRENGTHS, corrupt
from mnist_jax.evaluation import wilson_interval
from mnist_jax.report.style import (
    BLUE,
    INK,
    MUTED,
    POLE,
    RUN_LENGTH,
    STYLE,
    VERMILION,
    new_figure,
    place_axes,
    place_text,
    shorten,
)

# Okabe and Ito's palette, without its yellow, which is too pale for lines.
COLORS = (BLUE, VERMILION, "#009E73", "#CC79A7", "#56B4E9", "#E69F00", INK)
_LINES = (("-", "o"), ("--", "s"), (":", "^"))
_IMAGES_DRAWN = 2


def line_styles(count: int) -> list[dict[str, Any]]:
    """Return colour, dashes and marker of each of some lines; up to 21 differ."""
    kinds = itertools.cycle(itertools.product(_LINES, COLORS))
    return [
        {"color": color, "linestyle": dash, "linewidth": 1.6, "marker": marker}
        for (dash, marker), color in itertools.islice(kinds, count)
    ]


@matplotlib.rc_context(STYLE)
def reliability(runs: Sequence[dict[str, Any]]) -> Figure:
    """Draw accuracy over confidence, as a network is and with its temperature.

    Args:
        runs: entries of an evaluation; each has a row.
    """
    row_height, side, counts_height = 4.0, 2.35, 0.45
    figure = new_figure(0.25 + row_height * len(runs))
    for row, run in enumerate(runs):
        found, top = run["calibration"], 0.2 + row * row_height
        title = f"{shorten(run['name'], RUN_LENGTH)}: how often it is right, by how "
        title += "sure it is"
        place_text(figure, left=0.75, top=top, text=title, size=10)
        panels = {"": "as it is"}
        if found["temperature"] is not None:
            panels["_scaled"] = f"with temperature {found['temperature']:.3g}"
        for column, (ending, what) in enumerate(panels.items()):
            left = 0.75 + column * (side + 1.2)
            note = f"{what}: ECE {found[f'ece{ending}']:.4f}, "
            note += f"loss {found[f'loss{ending}']:.4f}"
            place_text(
                figure, left=left, top=top + 0.25, text=note, size=8.5, color=MUTED
            )
            _draw_bins(
                figure, found[f"bins{ending}"], left, top + 0.5, side, counts_height
            )
    return figure


def _draw_bins(
    figure: Figure,
    bins: Sequence[dict[str, Any]],
    left: float,
    top: float,
    side: float,
    counts_height: float,
) -> None:
    """Draw the dots of one panel, and below them how many images each is made of."""
    axes = place_axes(figure, left=left, top=top, width=side, height=side)
    axes.plot([0, 1], [0, 1], color=POLE, linewidth=1)
    filled = [one for one in bins if one["count"]]
    for one in filled:
        right = round(one["accuracy"] * one["count"])
        low, high = wilson_interval(right, one["count"])
        axes.plot([one["confidence"]] * 2, [low, high], color=BLUE, linewidth=1)
    dots = [(one["confidence"], one["accuracy"]) for one in filled]
    axes.plot(*zip(*dots, strict=True), "o", color=BLUE, markersize=5, clip_on=False)
    below = place_axes(
        figure, left=left, top=top + side + 0.08, width=side, height=counts_height
    )
    middles = [(one["from"] + one["to"]) / 2 for one in bins]
    width = 0.8 * (bins[0]["to"] - bins[0]["from"])
    below.bar(middles, [one["count"] for one in bins], width, color=BLUE)
    below.set_yscale("log")
    below.set_ylim(0.7, 1.6 * max(one["count"] for one in bins))
    below.yaxis.set_minor_locator(NullLocator())
    below.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    for one, label in ((axes, "accuracy"), (below, "images")):
        one.set_ylabel(label)
        one.yaxis.set_label_coords(-0.19, 0.5)
    below.set_xlabel("confidence; dots with 95 % intervals")
    ticks = np.linspace(0, 1, 6)
    for one in (axes, below):
        one.set_xlim(0, 1)
        one.set_xticks(ticks)
        one.spines[["top", "right"]].set_visible(False)
        one.tick_params(length=0)
    axes.set_xticklabels([])
    axes.set_ylim(0, 1)
    axes.set_yticks(ticks)
    axes.grid(True)
    axes.set_axisbelow(True)


@matplotlib.rc_context(STYLE)
def robustness(runs: Sequence[dict[str, Any]]) -> Figure:
    """Draw accuracy over the amount of damage: a panel a kind, a line a network.

    Args:
        runs: entries of an evaluation that have "robustness".
    """
    width, height, pitch = 1.95, 1.4, 2.1
    legend_rows = -(-len(runs) // 2)
    top = 0.55 + 0.2 * legend_rows
    rows = -(-len(CORRUPTIONS) // 3)
    figure = new_figure(top + rows * pitch)
    examples = runs[0]["robustness"]["examples"]
    title = f"Accuracy in per cent on {examples:,} images, by the amount of damage"
    place_text(figure, left=0.55, top=0.16, text=title, size=10)
    styles = line_styles(len(runs))
    for place, (name, kind) in enumerate(CORRUPTIONS.items()):
        row, column = divmod(place, 3)
        left, upper = 0.55 + column * (width + 0.55), top + row * pitch
        place_text(figure, left=left, top=upper, text=name, size=9.5)
        axes = place_axes(
            figure, left=left, top=upper + 0.22, width=width, height=height
        )
        for run, style in zip(runs, styles, strict=True):
            found = run["robustness"]
            values = [found["accuracy"], *found["corruptions"][name]["accuracy"]]
            axes.plot(
                [0, *kind.amounts],
                100 * np.array(values),
                markersize=3,
                clip_on=False,
                label=shorten(run["name"], RUN_LENGTH),
                **style,
            )
        axes.set_ylim(0, 100)
        axes.set_yticks([0, 25, 50, 75, 100])
        axes.set_xticks([0, *kind.amounts])
        axes.tick_params(length=0)
        axes.grid(True)
        axes.spines[["top", "right"]].set_visible(False)
        axes.set_xlabel(kind.unit, fontsize=8, labelpad=2)
    total_height = figure.get_size_inches()[1]
    figure.legend(
        *figure.axes[0].get_legend_handles_labels(),
        loc="upper left",
        bbox_to_anchor=(0.45 / 8, 1 - 0.36 / total_height),
        ncols=2,
        frameon=False,
        borderpad=0,
        handlelength=2.5,
    )
    return figure


@matplotlib.rc_context(STYLE)
def corruptions(images: UInt8[np.ndarray, "n 28 28 1"]) -> Figure:
    """Draw what each kind of damage makes of a few images.

    Args:
        images: the first of those that are damaged.
    """
    shown = images[:_IMAGES_DRAWN]
    pixel, left, top = 1 / 60, 1.0, 0.75
    cell = 30 * len(shown) * pixel
    gap = 0.15
    figure = new_figure(top + len(CORRUPTIONS) * 32 * pixel + 0.15)
    title = "The first images, damaged at five strengths"
    place_text(figure, left=0.2, top=0.16, text=title, size=10)
    for row, name in enumerate(CORRUPTIONS):
        upper = top + row * 32 * pixel
        place_text(figure, left=0.2, top=upper + 0.15, text=name, size=9)
        for column, strength in enumerate((0, *STRENGTHS)):
            start = left + column * (cell + gap)
            damaged = corrupt(shown, name, strength)[..., 0]
            for place, image in enumerate(damaged):
                axes = place_axes(
                    figure,
                    left=start + place * 30 * pixel,
                    top=upper,
                    width=28 * pixel,
                    height=28 * pixel,
                )
                axes.imshow(image, cmap="gray_r", vmin=0, vmax=255, aspect="auto")
                axes.set_axis_off()
            if not row:
                head = f"strength {strength}" if strength else "as they are"
                place_text(
                    figure, left=start, top=0.5, text=head, size=8.5, color=MUTED
                )
    return figure
