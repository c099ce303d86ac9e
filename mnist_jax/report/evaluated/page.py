"""The tables of an evaluation, and its page."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from mnist_jax.data.corruptions import CORRUPTIONS, STRENGTHS
from mnist_jax.report import tables
from mnist_jax.report.sections import Page, Picture, Section, Table, Text

Entry = dict[str, Any]
_FIGURES = {
    "reliability": "Reliability",
    "robustness": "Accuracy on damaged images",
    "corruptions": "The damage",
}


class Evaluation(NamedTuple):
    """What evaluation.json holds."""

    data: str
    """What the images are, such as "test images of mnist"."""
    runs: list[Entry]
    """One for each network: "name", "parameters_sha256", "notes" about it, what
    `assess` found and, where they were asked for, "augmented" and "robustness"."""
    notes: list[str]
    """What a reader must know, a sentence each."""


def accuracies(runs: Sequence[Entry]) -> Table:
    """Return a row for each figure, a column for each network."""
    rows: dict[str, list[str]] = {}
    for run in runs:
        scores = run["evaluation"]
        wrong = scores["examples"] - sum(
            row[k] for k, row in enumerate(scores["confusion"])
        )
        cells = {
            "Accuracy": _with_interval(scores),
            "Wrong": f"{wrong:,} of {scores['examples']:,}",
            "First half": tables.accuracy(scores["accuracy_first_half"]),
            "Second half": tables.accuracy(scores["accuracy_second_half"]),
        }
        if others := run.get("without_doubtful_labels"):
            doubtful = scores["examples"] - others["examples"]
            cells[f"Without {doubtful} doubtful labels"] = _with_interval(others)
        if views := run.get("augmented"):
            cells["With test-time augmentation"] = _with_interval(views)
        for name, cell in (cells | _calibration(run["calibration"])).items():
            rows.setdefault(name, []).append(cell)
    header = ["", *(run["name"] for run in runs)]
    return _table(header, [[name, *cells] for name, cells in rows.items()])


def robustness(runs: Sequence[Entry]) -> Table:
    """Return a row for each kind of damage and network, a column a strength."""
    many = len(runs) > 1
    rows = []
    for name, kind in CORRUPTIONS.items():
        amounts = ", ".join(f"{amount:g}" for amount in kind.amounts)
        for place, run in enumerate(runs):
            found = run["robustness"]["corruptions"][name]["accuracy"]
            cells = [*map(tables.accuracy, found), tables.accuracy(_mean(found))]
            title = f"{name}: {amounts}" if not place else ""
            rows.append([title, *([run["name"]] if many else []), *cells])
    for run in runs:
        mean = tables.accuracy(run["robustness"]["mean_corrupted_accuracy"])
        rows.append(["all", *([run["name"]] if many else []), *[""] * 5, mean])
    header = ["Damage", *(["Network"] if many else []), *map(str, STRENGTHS), "Mean"]
    return _table(header, rows)


def about_robustness(runs: Sequence[Entry]) -> str:
    """Return what the figures of `robustness` are."""
    found = runs[0]["robustness"]
    meanings = "; ".join(
        f"{name}, {kind.meaning}" for name, kind in CORRUPTIONS.items()
    )
    return (
        f"Accuracy on {found['examples']:,} images at five strengths of damage (seed "
        f"{found['seed']}). Amounts: {meanings}."
    )


def notes(found: Evaluation) -> list[str]:
    """Return what a reader must know: of each network, then of all."""
    return [note for run in found.runs for note in run["notes"]] + found.notes


def build(found: Evaluation, figures: Sequence[str]) -> Page:
    """Return the page.

    Args:
        found: what it tells.
        figures: names of its pictures, keys of `_FIGURES`.
    """
    sections = []
    if "robustness" in figures:
        table, meaning = robustness(found.runs), about_robustness(found.runs)
        sections.append(Section("Robustness", [table, Text(meaning)]))
    sections += [
        Section(_FIGURES[name], [Picture(name, _FIGURES[name])]) for name in figures
    ]
    introduction = [accuracies(found.runs), *map(Text, notes(found))]
    return Page(f"Evaluation on {found.data}", introduction, sections)


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    return Table(header, rows, ["left"] + ["right"] * (len(header) - 1))


def _calibration(found: dict[str, Any]) -> dict[str, str]:
    cells = {
        "Loss": tables.loss(found["loss"]),
        "Calibration error (ECE)": tables.accuracy(found["ece"]),
        "Temperature": tables.number(found["temperature"]),
    }
    scaled = found["temperature"] is not None
    cells["Loss with it"] = tables.loss(found["loss_scaled"]) if scaled else "-"
    cells["ECE with it"] = tables.accuracy(found["ece_scaled"])
    return cells


def _with_interval(found: dict[str, Any]) -> str:
    bounds = tables.interval(found["accuracy_interval"])
    return f"{tables.accuracy(found['accuracy'])} ({bounds})"


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
