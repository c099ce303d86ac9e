"""The results of `mnist-jax evaluate`: tables, a picture and a page."""

import itertools
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from mnist_jax import files
from mnist_jax.data.corruptions import CORRUPTIONS
from mnist_jax.report import render
from mnist_jax.report.render import Table


class Evaluation(NamedTuple):
    """The contents of evaluation.json."""

    data: str
    """The images, such as "test images of mnist"."""
    runs: list[dict[str, Any]]
    """For each network "name", "parameters_sha256", "evaluation" and "calibration" of
    `mnist_jax.evaluation` and, where they were measured, "augmented" and
    "robustness"."""
    notes: list[str]
    """Remarks that a reader needs, a sentence each."""


def write(found: Evaluation, folder: Path) -> None:
    """Write evaluation.json, evaluation.md and its picture into a folder.

    Raises:
        OSError: a file cannot be written.
    """
    from mnist_jax.report.evaluated import figures
    from mnist_jax.report.figures import save

    save(figures.reliability(found.runs), folder / "reliability.png")
    text = render.markdown(
        "evaluation",
        found=found,
        accuracies=accuracies(found.runs),
        robustness=robustness(found.runs),
    )
    files.write_text(folder / "evaluation.md", text)
    files.write_json(folder / "evaluation.json", found._asdict())


def accuracies(runs: Sequence[dict[str, Any]]) -> Table:
    """Return a row for each figure, a column for each network."""
    rows: dict[str, list[str]] = {}
    for run in runs:
        scores, found = run["evaluation"], run["calibration"]
        right = sum(row[k] for k, row in enumerate(scores["confusion"]))
        cells = {
            "Accuracy": _with_interval(scores),
            "Wrong": f"{scores['examples'] - right:,} of {scores['examples']:,}",
            "First half": render.accuracy(scores["accuracy_first_half"]),
            "Second half": render.accuracy(scores["accuracy_second_half"]),
        }
        if views := run.get("augmented"):
            cells["With test-time augmentation"] = _with_interval(views)
        cells |= {
            "Loss": render.number(found["loss"]),
            "Calibration error (ECE)": render.accuracy(found["ece"]),
            "Temperature": render.number(found["temperature"]),
            "Loss with it": render.number(found["loss_scaled"]),
            "ECE with it": render.accuracy(found["ece_scaled"]),
        }
        for name, cell in cells.items():
            rows.setdefault(name, []).append(cell)
    names = [run["name"] for run in runs]
    return _table(["", *names], [[title, *cells] for title, cells in rows.items()])


def robustness(runs: Sequence[dict[str, Any]], *, narrow: bool = False) -> Table | None:
    """Return a row for each kind of damage and network, if that was measured.

    Unless it is narrow, it says the amounts of each kind.
    """
    if "robustness" not in runs[0]:
        return None
    rows = []
    for kind, damage in CORRUPTIONS.items():
        amounts = ", ".join(f"{amount:g}" for amount in damage.amounts)
        title = kind if narrow else f"{kind}: {amounts} ({damage.unit})"
        for run in runs:
            found = run["robustness"]["accuracy"][kind]
            cells = map(render.accuracy, [*found, statistics.mean(found)])
            rows.append([title, run["name"], *cells])
    for run in runs:
        every = itertools.chain(*run["robustness"]["accuracy"].values())
        rows.append(
            ["all", run["name"], *[""] * 5, render.accuracy(statistics.mean(every))]
        )
    return _table(["Damage", "Network", *"12345", "Mean"], rows)


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    return Table(header, rows, ["left"] + ["right"] * (len(header) - 1))


def _with_interval(found: dict[str, Any]) -> str:
    bounds = render.interval(found["accuracy_interval"])
    return f"{render.accuracy(found['accuracy'])} ({bounds})"
