"""Learning curves: loss and error rate of every epoch, side by side.

The error rate is shown instead of the accuracy because on a logarithmic axis both the
step from 97 % to 98 % and the one from 99.4 % to 99.6 % are easy to see.
"""

import itertools
from collections.abc import Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator

from mnist_jax.report import style

Row = dict[str, Any]

_SPLITS = {"train": ("training", style.BLUE), "val": ("validation", style.VERMILION)}
_PANELS = {
    "Loss": lambda row: row["loss"],
    # Rounded, or 1 - 0.9 would be a hair above a tenth.
    "Error rate (%)": lambda row: round(100 * (1 - row["accuracy"]), 9),
}
_DOTS_UP_TO = 30  # epochs; with more of them dots would run together


@matplotlib.rc_context(style.STYLE)
def curves(
    rows: Sequence[Row], best_epoch: int, monitor: str, about: style.About
) -> Figure:
    """Draw loss and error rate over the epochs, of training and validation.

    A split without lines of metrics.jsonl is left out. The best epoch is marked on the
    curve of the monitor, such as "val_loss", that chose it.
    """
    rates = {r["epoch"]: r["learning_rate"] for r in rows if "learning_rate" in r}
    ratios = [4, 1] if rates else [1]
    height = 3.7 + bool(rates)
    figure, axes = style.subplots(
        len(ratios), 2, height, height_ratios=ratios, sharex=True
    )
    for panel, (title, value_of) in zip(axes[0], _PANELS.items(), strict=True):
        panel.set_title(title, loc="left", color=style.MUTED)
        for split, (name, color) in _SPLITS.items():
            values = {r["epoch"]: value_of(r) for r in rows if r["split"] == split}
            if values:
                _draw(panel, values, label=name, color=color)
            if monitor.startswith(split) and best_epoch in values:
                label = f"best epoch, by {monitor.replace('_', ' ')}: {best_epoch}"
                ring = {"ms": 11, "mfc": "none", "color": style.INK, "label": label}
                panel.plot([best_epoch], [values[best_epoch]], "o", **ring)
        _scale(panel, [value_of(row) for row in rows])
    for panel in axes[1] if rates else ():
        panel.set_title("Learning rate", loc="left", color=style.MUTED, fontsize=8)
        _draw(panel, rates, color=style.INK)
        panel.set_ylim(bottom=0)
        panel.yaxis.set_major_locator(MaxNLocator(2, steps=[1, 2, 5, 10]))
        panel.yaxis.set_major_formatter("{x:g}")
    last = max(row["epoch"] for row in rows)
    margin = max(0.5, 0.02 * last)
    for panel in axes[-1]:
        panel.set(xlabel="epoch", xlim=(1 - margin, last + margin))
        panel.xaxis.set_major_locator(MaxNLocator(8, integer=True))
    found = phases(rows)
    for panel in axes.flat:
        style.plain(panel)
        panel.grid(visible=False, axis="x")
        for _, first in found[1:]:
            panel.axvline(first - 0.5, color=style.POLE, linewidth=0.8, zorder=1)
    handles, labels = axes[0, 0].get_legend_handles_labels()
    legend: dict[str, Any] = {"ncols": len(handles), "frameon": False}
    figure.legend(handles, labels, loc="outside lower center", **legend)
    named = ", ".join(f"{name} from epoch {first}" for name, first in found)
    note = f"phases: {named}" if len(found) > 1 else ""
    style.set_title(figure, about.run, f"training on {about.subject}", note)
    return figure


def phases(rows: Sequence[Row]) -> list[tuple[str, int]]:
    """Return the name and the first epoch of each phase, in order."""
    ordered = sorted(rows, key=lambda row: row["epoch"])
    groups = itertools.groupby(ordered, key=lambda row: row["phase"])
    return [(name, next(group)["epoch"]) for name, group in groups]


def _draw(axes: Axes, values: dict[int, float], **line: Any) -> None:
    line["linewidth"] = 1.4 if len(values) <= 100 else 1.0
    line["marker"] = "o" if len(values) <= _DOTS_UP_TO else ""
    # A single epoch has no line, only a marker.
    line["markersize"] = 3.5 if len(values) > 1 else 7
    axes.plot(list(values), list(values.values()), **line)


def _scale(axes: Axes, drawn: Sequence[float]) -> None:
    """Set the y axis: logarithmic beyond a decade, with zeros below it."""
    values = np.array(drawn)
    positive = values[values > 0]
    if values.min() < 0 or not positive.size or positive.max() <= 10 * positive.min():
        axes.yaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10]))
        axes.set_ylim(bottom=None if values.min() < 0 else 0)
    else:
        axes.set_yscale("log")
        subs = (1, 2, 5) if positive.max() <= 1000 * positive.min() else (1,)
        axes.yaxis.set_major_locator(LogLocator(subs=subs, numticks=8))
        axes.yaxis.set_minor_locator(NullLocator())
        axes.set_ylim(positive.min() / 1.15, 1.15 * positive.max())
    axes.yaxis.set_major_formatter("{x:g}")
