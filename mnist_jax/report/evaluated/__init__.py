"""The results of `mnist-jax evaluate`: tables, pictures and a page."""

import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from mnist_jax import files
from mnist_jax.data.corruptions import CORRUPTIONS, STRENGTHS
from mnist_jax.report import render
from mnist_jax.report.compare.tables import Table


class Evaluation(NamedTuple):
    """The contents of evaluation.json."""

    data: str
    """The images, such as "test images of mnist"."""
    runs: list[dict[str, Any]]
    """For each network "name", "parameters_sha256", "notes" about it, "evaluation" and
    "calibration" of `mnist_jax.evaluation` and, where they were measured, "augmented",
    "robustness" and "without_doubtful_labels"."""
    notes: list[str]
    """Remarks that a reader needs, a sentence each."""

    @property
    def remarks(self) -> list[str]:
        """The notes on each network, then on all."""
        return [note for run in self.runs for note in run["notes"]] + self.notes


def write(found: Evaluation, folder: Path) -> None:
    """Write evaluation.json, evaluation.md and their pictures into a folder.

    Raises:
        OSError: a file cannot be written.
    """
    from mnist_jax.report.evaluated import figures
    from mnist_jax.report.figures import save

    drawn = {"reliability": figures.reliability(found.runs)}
    if "robustness" in found.runs[0]:
        drawn["robustness"] = figures.robustness(found.runs)
    for name, figure in drawn.items():
        save(figure, folder / f"{name}.png")
    text = render.markdown(
        "evaluation",
        found=found,
        accuracies=accuracies(found.runs),
        robustness=robustness(found.runs) if "robustness" in drawn else None,
        about_robustness=about_robustness,
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
        if others := run.get("without_doubtful_labels"):
            doubtful = scores["examples"] - others["examples"]
            cells[f"Without {doubtful} doubtful labels"] = _with_interval(others)
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


def robustness(runs: Sequence[dict[str, Any]]) -> Table:
    """Return a row for each kind of damage and network, a column for each strength."""
    rows = []
    for kind, damage in CORRUPTIONS.items():
        amounts = ", ".join(f"{amount:g}" for amount in damage.amounts)
        for run in runs:
            found = run["robustness"]["corruptions"][kind]["accuracy"]
            cells = map(render.accuracy, [*found, statistics.mean(found)])
            rows.append([f"{kind}: {amounts}", run["name"], *cells])
    for run in runs:
        mean = render.accuracy(run["robustness"]["mean_damaged_accuracy"])
        rows.append(["all", run["name"], *[""] * len(STRENGTHS), mean])
    return _table(["Damage", "Network", *map(str, STRENGTHS), "Mean"], rows)


def about_robustness(runs: Sequence[dict[str, Any]]) -> str:
    """Return the explanation of `robustness`."""
    found = runs[0]["robustness"]
    meanings = "; ".join(f"{kind}, {one.unit}" for kind, one in CORRUPTIONS.items())
    return (
        f"Accuracy on {found['examples']:,} images at five strengths of damage (seed "
        f"{found['seed']}). Amounts: {meanings}."
    )


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    return Table(header, rows, ["left"] + ["right"] * (len(header) - 1))


def _with_interval(found: dict[str, Any]) -> str:
    bounds = render.interval(found["accuracy_interval"])
    return f"{render.accuracy(found['accuracy'])} ({bounds})"
