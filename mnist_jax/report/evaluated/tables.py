"""The tables of an evaluation."""

import statistics
from collections.abc import Sequence
from typing import Any

from mnist_jax.data.corruptions import CORRUPTIONS, STRENGTHS
from mnist_jax.report import tables
from mnist_jax.report.compare.tables import Table


def accuracies(runs: Sequence[dict[str, Any]]) -> Table:
    """Return a row for each figure, a column for each network."""
    rows: dict[str, list[str]] = {}
    for run in runs:
        scores, found = run["evaluation"], run["calibration"]
        right = sum(row[k] for k, row in enumerate(scores["confusion"]))
        cells = {
            "Accuracy": _with_interval(scores),
            "Wrong": f"{scores['examples'] - right:,} of {scores['examples']:,}",
            "First half": tables.accuracy(scores["accuracy_first_half"]),
            "Second half": tables.accuracy(scores["accuracy_second_half"]),
        }
        if others := run.get("without_doubtful_labels"):
            doubtful = scores["examples"] - others["examples"]
            cells[f"Without {doubtful} doubtful labels"] = _with_interval(others)
        if views := run.get("augmented"):
            cells["With test-time augmentation"] = _with_interval(views)
        cells |= {
            "Loss": tables.loss(found["loss"]),
            "Calibration error (ECE)": tables.accuracy(found["ece"]),
            "Temperature": tables.number(found["temperature"]),
            "Loss with it": tables.loss(found["loss_scaled"]),
            "ECE with it": tables.accuracy(found["ece_scaled"]),
        }
        for name, cell in cells.items():
            rows.setdefault(name, []).append(cell)
    return _table(
        ["", *(run["name"] for run in runs)], [[k, *v] for k, v in rows.items()]
    )


def robustness(runs: Sequence[dict[str, Any]]) -> Table:
    """Return a row for each kind of damage and network, a column for each strength."""
    rows = []
    for kind, damage in CORRUPTIONS.items():
        amounts = ", ".join(f"{amount:g}" for amount in damage.amounts)
        for run in runs:
            found = run["robustness"]["corruptions"][kind]["accuracy"]
            cells = map(tables.accuracy, [*found, statistics.mean(found)])
            rows.append([f"{kind}: {amounts}", run["name"], *cells])
    for run in runs:
        mean = tables.accuracy(run["robustness"]["mean_corrupted_accuracy"])
        rows.append(["all", run["name"], *[""] * len(STRENGTHS), mean])
    header = ["Damage", "Network", *map(str, STRENGTHS), "Mean"]
    if len(runs) == 1:
        header, *rows = ([row[0], *row[2:]] for row in (header, *rows))
    return _table(header, rows)


def about_robustness(runs: Sequence[dict[str, Any]]) -> str:
    """Return the explanation of `robustness`."""
    found = runs[0]["robustness"]
    meanings = "; ".join(f"{kind}, {one.meaning}" for kind, one in CORRUPTIONS.items())
    return (
        f"Accuracy on {found['examples']:,} images at five strengths of damage (seed "
        f"{found['seed']}). Amounts: {meanings}."
    )


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    return Table(header, rows, ["left"] + ["right"] * (len(header) - 1))


def _with_interval(found: dict[str, Any]) -> str:
    bounds = tables.interval(found["accuracy_interval"])
    return f"{tables.accuracy(found['accuracy'])} ({bounds})"
