"""Markdown tables, and one way to write each kind of number."""

import re
from collections.abc import Sequence
from typing import Any

import numpy as np

_RULES = {"left": ":--", "right": "--:", "center": ":-:"}
EPOCHS_SHOWN = 12
"""Rows of an epoch table, more or less: longer trainings are thinned to this."""


def markdown_table(
    header: Sequence[str], rows: Sequence[Sequence[str]], align: Sequence[str]
) -> str:
    """Return a table, its columns padded so that the source reads as a table too.

    Args:
        header: Titles of the columns.
        rows: Cells, as many in each row as in the header.
        align: "left", "right" or "center" for each column.

    Raises:
        ValueError: A row or `align` is of another length than the header.
    """
    if len(align) != len(header):
        raise ValueError(f"{len(header)} columns but {len(align)} alignments")
    for row in rows:
        if len(row) != len(header):
            raise ValueError(f"{len(header)} columns but {len(row)} cells: {row}")
    lines = [[_cell(text) for text in line] for line in (header, *rows)]
    widths = [max(3, *map(len, column)) for column in zip(*lines, strict=True)]
    padded = [
        [
            text.rjust(width) if side == "right" else text.ljust(width)
            for text, width, side in zip(line, widths, align, strict=True)
        ]
        for line in lines
    ]
    rules = [
        _RULES[side].replace("-", "-" * (width - len(_RULES[side]) + 1), 1)
        for width, side in zip(widths, align, strict=True)
    ]
    return "\n".join(
        f"| {' | '.join(line)} |" for line in (padded[0], rules, *padded[1:])
    )


def per_class_table(scores: Sequence[dict[str, Any]]) -> str:
    """Return precision, recall, F1 and support of each digit."""
    rows = [
        [
            str(score["digit"]),
            *(accuracy(score[name]) for name in ("precision", "recall", "f1")),
            f"{score['support']:,}",
        ]
        for score in scores
    ]
    header = ["Digit", "Precision", "Recall", "F1", "Images"]
    return markdown_table(header, rows, ["right"] * len(header))


def epochs_table(epochs: Sequence[dict[str, Any]], best_epoch: int) -> str:
    """Return loss and accuracy by epoch, the best one bold, long trainings thinned.

    Args:
        epochs: Lines of metrics.jsonl, ascending in epoch.
        best_epoch: Always among the rows.
    """
    by_epoch: dict[int, dict[str, dict[str, Any]]] = {}
    for line in epochs:
        by_epoch.setdefault(line["epoch"], {})[line["split"]] = line
    names = {epoch: _phase(splits) for epoch, splits in by_epoch.items()}
    with_phase = len(set(names.values())) > 1
    header = ["Epoch"] + ["Phase"] * with_phase
    header += ["Learning rate", "Train loss", "Train accuracy"]
    header += ["Val loss", "Val accuracy", "Time"]
    rows = []
    for epoch in thinned(list(names.values()), list(names), best_epoch):
        train, val = (by_epoch[epoch].get(split, {}) for split in ("train", "val"))
        cells = [str(epoch)] + [names[epoch]] * with_phase
        cells += [number(train.get("learning_rate"))]
        for split in (train, val):
            cells += [loss(split.get("loss")), accuracy(split.get("accuracy"))]
        cells += [duration(train.get("seconds", 0) + val.get("seconds", 0))]
        rows.append([f"**{cell}**" if epoch == best_epoch else cell for cell in cells])
    align = ["left" if title == "Phase" else "right" for title in header]
    return markdown_table(header, rows, align)


def thinned(phases: Sequence[str], epochs: Sequence[int], best_epoch: int) -> list[int]:
    """Return which epochs to list: all if they are few, else an even selection.

    The first, the last, the best and the last one of each phase are always in it.

    Args:
        phases: The phase of each epoch.
        epochs: Ascending.
        best_epoch: One of them.
    """
    if len(epochs) <= EPOCHS_SHOWN:
        return list(epochs)
    even = np.linspace(0, len(epochs) - 1, EPOCHS_SHOWN - 2).round().astype(int)
    kept = {epochs[place] for place in even} | {best_epoch} & set(epochs)
    kept |= {
        epochs[place]
        for place in range(len(epochs) - 1)
        if phases[place] != phases[place + 1]
    }
    return sorted(kept)


def fenced(text: str, language: str = "") -> str:
    """Return a code block, its fence longer than any run of backticks in the text."""
    longest = max((len(run) for run in re.findall("`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{language}\n{text.rstrip()}\n{fence}"


def accuracy(value: float | None) -> str:
    """Return four decimals, or a dash where a figure is undefined."""
    return "-" if value is None else f"{value:.4f}"


def interval(bounds: Sequence[float]) -> str:
    """Return low and high, such as 0.9842-0.9887."""
    low, high = bounds
    return f"{low:.4f}-{high:.4f}"


def loss(value: float | None) -> str:
    """Return four decimals, or two digits that count where those would be zeros."""
    if value is None:
        return "-"
    return f"{value:.4f}" if value == 0 or abs(value) >= 1e-3 else f"{value:.1e}"


def number(value: float | None) -> str:
    """Return a number to three digits that count, or a dash for none."""
    return "-" if value is None else f"{value:.3g}"


def duration(seconds: float) -> str:
    """Return a time in the units that a person would use."""
    if seconds < 9.95:
        return f"{seconds:.1f} s" if seconds >= 0.0995 else f"{1000 * seconds:.0f} ms"
    whole = round(seconds)
    minutes, hours = whole // 60, whole // 3600
    if not minutes:
        return f"{whole} s"
    if not hours:
        return f"{minutes} min {whole % 60:02d} s"
    return f"{hours} h {minutes % 60:02d} min"


def _cell(text: str) -> str:
    return text.replace("|", r"\|").replace("\n", " ")


def _phase(splits: dict[str, dict[str, Any]]) -> str:
    return next(iter(splits.values()))["phase"]
