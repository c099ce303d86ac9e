"""Tables, and one way to write each kind of number."""

import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from mnist_jax.report.sections import Table

_RULES = {"left": ":--", "right": "--:", "center": ":-:"}
EPOCHS_SHOWN = 12
"""Approximate number of rows of an epoch table; longer trainings are thinned."""


def markdown_table(
    header: Sequence[str], rows: Sequence[Sequence[str]], align: Sequence[str]
) -> str:
    """Return a table, padded so that its source is readable too.

    Args:
        header: titles of the columns.
        rows: cells, one per column.
        align: "left", "right" or "center", one per column.

    Raises:
        ValueError: a row or `align` is not as long as the header.
    """
    for line, what in [(align, "alignments"), *((row, "cells") for row in rows)]:
        if len(line) != len(header):
            raise ValueError(f"{len(header)} columns but {len(line)} {what}: {line}")
    cells = [
        [text.replace("|", r"\|").replace("\n", " ") for text in line]
        for line in (header, *rows)
    ]
    widths = [max(3, *map(len, column)) for column in zip(*cells, strict=True)]
    padded = [
        [
            text.rjust(width) if side == "right" else text.ljust(width)
            for text, width, side in zip(line, widths, align, strict=True)
        ]
        for line in cells
    ]
    rules = [
        _RULES[side].replace("-", "-" * (width - 2), 1)
        for width, side in zip(widths, align, strict=True)
    ]
    return "\n".join(
        f"| {' | '.join(line)} |" for line in (padded[0], rules, *padded[1:])
    )


def per_class_table(scores: Sequence[dict[str, Any]]) -> Table:
    """Return precision, recall, F1 and number of images of each digit."""
    rows = [
        [
            str(score.get("class", score.get("digit"))),
            *(accuracy(score[name]) for name in ("precision", "recall", "f1")),
            f"{score['support']:,}",
        ]
        for score in scores
    ]
    header = ["Digit", "Precision", "Recall", "F1", "Images"]
    return Table(header, rows, ["right"] * len(header))


def epochs_table(epochs: Sequence[dict[str, Any]], best_epoch: int) -> Table:
    """Return loss and accuracy by epoch, thinned if long, with the best epoch bold.

    Args:
        epochs: lines of metrics.jsonl, ascending in epoch.
        best_epoch: always among the rows.
    """
    by_epoch: dict[int, dict[str, dict[str, Any]]] = {}
    for line in epochs:
        by_epoch.setdefault(line["epoch"], {})[line["split"]] = line
    phases = {line["epoch"]: line["phase"] for line in epochs}
    with_phase = len(set(phases.values())) > 1
    header = ["Epoch"] + ["Phase"] * with_phase
    header += ["Learning rate", "Train loss", "Train accuracy"]
    header += ["Val loss", "Val accuracy", "Time"]
    rows = []
    for epoch in thinned(list(phases.values()), list(phases), best_epoch):
        train, val = (by_epoch[epoch].get(split, {}) for split in ("train", "val"))
        cells = [str(epoch)] + [phases[epoch]] * with_phase
        cells += [number(train.get("learning_rate"))]
        for split in (train, val):
            cells += [loss(split.get("loss")), accuracy(split.get("accuracy"))]
        cells += [duration(train.get("seconds", 0) + val.get("seconds", 0))]
        rows.append([f"**{cell}**" if epoch == best_epoch else cell for cell in cells])
    align = ["left" if title == "Phase" else "right" for title in header]
    return Table(header, rows, align)


def thinned(phases: Sequence[str], epochs: Sequence[int], best_epoch: int) -> list[int]:
    """Return which epochs to list: all if they are few, else an even selection.

    The first, the last, the best and the last one of each phase are always among them.

    Args:
        phases: the phase of each epoch.
        epochs: ascending.
        best_epoch: one of them.
    """
    if len(epochs) <= EPOCHS_SHOWN:
        return list(epochs)
    even = np.linspace(0, len(epochs) - 1, EPOCHS_SHOWN - 2).round().astype(int)
    ends = [n for n in range(len(epochs) - 1) if phases[n] != phases[n + 1]]
    return sorted({epochs[n] for n in [*even, *ends]} | {best_epoch} & set(epochs))


def fenced(text: str, language: str = "") -> str:
    """Return a code block whose fence is longer than any backticks in the text."""
    longest = max((len(run) for run in re.findall("`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{language}\n{text.rstrip()}\n{fence}"


def accuracy(value: float | None) -> str:
    """Return four decimals, or a dash for an undefined value."""
    return "-" if value is None else f"{value:.4f}"


def interval(bounds: Sequence[float]) -> str:
    """Return low and high, such as 0.9842-0.9887."""
    low, high = bounds
    return f"{low:.4f}-{high:.4f}"


def loss(value: float | None) -> str:
    """Return four decimals, or two significant digits of a very small value."""
    if value is None:
        return "-"
    return f"{value:.4f}" if value == 0 or abs(value) >= 1e-3 else f"{value:.1e}"


def number(value: float | None) -> str:
    """Return three significant digits, or a dash for None."""
    return "-" if value is None else f"{value:.3g}"


def duration(seconds: float) -> str:
    """Return a time in the units that a person would use."""
    if seconds < 9.95:
        return f"{seconds:.1f} s" if seconds >= 0.0995 else f"{1000 * seconds:.0f} ms"
    minutes, whole = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02d} min"
    return f"{minutes} min {whole:02d} s" if minutes else f"{whole} s"


def count(number: int, noun: str) -> str:
    """Return a number with its noun, such as "1 image" or "10,000 images"."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
