"""A comparison as text for a file: Markdown for people, CSV for programs."""

import csv
import io
import statistics
from typing import Any

from mnist_jax.report import tables
from mnist_jax.report.comparison import separation
from mnist_jax.report.comparison.columns import (
    augmentation,
    best,
    columns_for,
    explanation,
    hardware,
    labels,
)
from mnist_jax.report.comparison.groups import Comparison, Group
from mnist_jax.report.comparison.runs import Run


def to_markdown(comparison: Comparison) -> str:
    """Return the table, what its figures are, and tables of the seeds and every run."""
    sections = [results(comparison)]
    if findings := separation.sentences(comparison.groups):
        sections.append("\n".join(f"- {line}" for line in findings))
    return "\n\n".join([*sections, "**Every run**", every_run(comparison)]) + "\n"


def results(comparison: Comparison) -> str:
    """Return the table as Markdown, and below it what its figures are."""
    groups = comparison.groups
    row_labels, footnotes = labels(groups)
    winners = best(groups)
    columns = columns_for(groups)
    rows = []
    for place, group in enumerate(groups):
        cells = {column.title: column.cell(group) for column in columns}
        if place in winners:
            cells["Mean"] = f"**{cells['Mean']}**"
        rows.append([str(row_labels[place]), *cells.values()])
    table = tables.markdown_table(
        ["Network", *(column.long_title or column.title for column in columns)],
        rows,
        ["left", *(column.align for column in columns)],
    )
    return "\n\n".join([table, explanation(groups), *footnotes, *comparison.notes])


def to_csv(comparison: Comparison) -> str:
    """Return one line a group, its numbers as they are; lists have spaces between."""
    file = io.StringIO()
    rows = [_csv_row(group) for group in comparison.groups]
    writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return file.getvalue()


def _csv_row(group: Group) -> dict[str, Any]:
    """Return a group's raw figures; None, which CSV leaves empty, for those unknown."""
    other = group.other_accuracy
    epochs = group.numbers("epochs")
    return {
        "config": group.first.name,
        "differences": " ".join(group.differences),
        "model": group.model,
        "data": " ".join(group.data),
        "tested_on": group.tested_on,
        "augmentation": augmentation(group),
        "parameters": " ".join(map(str, dict.fromkeys(group.numbers("parameters")))),
        **group.accuracy._asdict(),
        "weights": group.weights,
        "other_weights": group.other_weights,
        "other_mean": other and other.mean,
        "other_sd": other and other.sd,
        "report_accuracy": group.report_accuracy,
        "epochs_mean": statistics.mean(epochs) if epochs else None,
        "epochs_least": min(epochs, default=None),
        "epochs_most": max(epochs, default=None),
        "train_seconds_mean": group.mean_seconds,
        "hardware": hardware(group),
        "seeds": " ".join(str(run.seed) for run in group.runs),
        "accuracies": " ".join(
            repr(run.results["test_accuracy"]) for run in group.runs
        ),
    }


def every_run(comparison: Comparison) -> str:
    """Return a Markdown table with a row a run."""
    groups = comparison.groups
    row_labels, _ = labels(groups)
    rows = []
    for group, label in zip(groups, row_labels, strict=True):
        for run in group.runs:
            seconds, epochs = (run.number(n) for n in ("train_seconds", "epochs"))
            commit, command = (
                run.environment.get(n) for n in ("git_commit", "command")
            )
            rows.append(
                [
                    str(label),
                    str(run.seed),
                    *(_test_accuracy(run, weights) for weights in ("last", "best")),
                    tables.accuracy(run.accuracy("val", group.weights)),
                    "-" if epochs is None else str(epochs),
                    "-" if seconds is None else f"{seconds:.1f}",
                    _short_commit(commit),
                    _code(str(command)) if command else "-",
                ]
            )
    header = ["Network", "Seed", "Test, last weights", "Test, best weights"]
    header += ["Validation", "Epochs", "Seconds", "Commit", "Command"]
    align = ["left"] + ["right"] * 6 + ["left"] * 2
    return tables.markdown_table(header, rows, align)


def _test_accuracy(run: Run, weights: str) -> str:
    """Return the accuracy on the test images, or a dash if it was not measured."""
    # Where a run was tested on validation images, results.json calls these "test".
    return tables.accuracy(
        None if run.tested_on == "val" else run.accuracy("test", weights)
    )


def _short_commit(commit: Any) -> str:
    """Return the first ten digits of a commit, still marked if it was changed."""
    if not isinstance(commit, str):
        return "-"
    digits, _, mark = commit.partition("-")
    return f"{digits[:10]}-{mark}" if mark else digits[:10]


def _code(text: str) -> str:
    """Return Markdown that shows a text as it is."""
    return f"`` {text} ``" if "`" in text else f"`{text}`"
