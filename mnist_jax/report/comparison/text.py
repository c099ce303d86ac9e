"""A comparison as Markdown for readers, and as CSV for programs."""

import csv
import io
import re
import statistics
from typing import Any

from mnist_jax.report import tables
from mnist_jax.report.comparison import columns, separation
from mnist_jax.report.comparison.groups import Comparison, Group
from mnist_jax.report.comparison.runs import Run
from mnist_jax.report.sections import Table


def to_markdown(comparison: Comparison) -> str:
    """Return the table, its explanation, what the seeds say, and a table of runs."""
    sections = [results(comparison)]
    if findings := separation.sentences(comparison.groups):
        sections.append("\n".join(f"- {line}" for line in findings))
    return "\n\n".join([*sections, "**Every run**", every_run(comparison)]) + "\n"


def results(comparison: Comparison) -> str:
    """Return the table as Markdown, with its explanation below."""
    table = tables.markdown_table(*results_table(comparison))
    return "\n\n".join([table, *explanations(comparison)])


def explanations(comparison: Comparison) -> list[str]:
    """Return the paragraphs below a table of results."""
    _, footnotes = columns.labels(comparison.groups)
    return [columns.explanation(comparison.groups), *footnotes, *comparison.notes]


def results_table(comparison: Comparison) -> Table:
    """Return the full table of results, one row per group."""
    groups = comparison.groups
    labels, _ = columns.labels(groups)
    shown = columns.columns_for(groups)
    rows = [
        [str(label), *(column.cell(group) for column in shown)]
        for group, label in zip(groups, labels, strict=True)
    ]
    return Table(
        ["Network", *(column.long_title or column.title for column in shown)],
        rows,
        ["left", *(column.align for column in shown)],
    )


def short_results(comparison: Comparison) -> str:
    """Return a table narrow enough for a README, with one row per config."""
    groups = comparison.groups
    labels, _ = columns.labels(groups)
    rows = []
    for group, label in zip(groups, labels, strict=True):
        found = group.accuracy
        accuracy = tables.accuracy(found.mean)
        if found.sd is not None:
            accuracy += f" ± {tables.accuracy(found.sd)}"
        parameters = dict.fromkeys(group.numbers("parameters"))
        seconds = group.median_seconds
        rows.append(
            [
                label.name,
                accuracy,
                str(found.n),
                tables.accuracy(group.report_accuracy),
                ", ".join(f"{number:,}" for number in parameters) or "-",
                columns.duration(seconds) if seconds else "-",
                columns.hardware(group),
                _short_command(group),
            ]
        )
    table = tables.markdown_table(
        [
            *("Network", "Accuracy", "n", "Report", "Parameters", "Time (median)"),
            *("Hardware", "Command"),
        ],
        rows,
        ["left", *["right"] * 5, "left", "left"],
    )
    return "\n\n".join([table, *explanations(comparison)])


def _short_command(group: Group) -> str:
    """Return the command of a run, without its seed and its folder."""
    command = group.first.environment.get("command")
    if not command:
        return "-"
    flags = r" --(workdir|config\.seed)(=| )('[^']*'|\S+)"
    return _code(re.sub(flags, "", str(command)))


def to_csv(comparison: Comparison) -> str:
    """Return one line per group, numbers unrounded, lists separated by spaces."""
    file = io.StringIO()
    rows = [_csv_row(group) for group in comparison.groups]
    writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return file.getvalue()


def _csv_row(group: Group) -> dict[str, Any]:
    """Return a group's raw figures; unknown ones are None, an empty cell in CSV."""
    other = group.other_accuracy
    epochs = group.numbers("epochs")
    return {
        "config": group.first.name,
        "differences": " ".join(group.differences),
        "model": group.model,
        "data": " ".join(group.data),
        "tested_on": group.tested_on,
        "augmentation": columns.augmentation(group),
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
        "train_seconds_median": group.median_seconds,
        "hardware": columns.hardware(group),
        "seeds": " ".join(str(run.seed) for run in group.runs),
        "accuracies": " ".join(
            repr(run.results["test_accuracy"]) for run in group.runs
        ),
    }


def every_run(comparison: Comparison) -> str:
    """Return a Markdown table with one row per run."""
    labels, _ = columns.labels(comparison.groups)
    rows = []
    for group, label in zip(comparison.groups, labels, strict=True):
        for run in group.runs:
            seconds, epochs = run.number("train_seconds"), run.number("epochs")
            command = run.environment.get("command")
            rows.append(
                [
                    str(label),
                    str(run.seed),
                    *(_test_accuracy(run, weights) for weights in ("last", "best")),
                    tables.accuracy(run.accuracy("val", group.weights)),
                    "-" if epochs is None else str(epochs),
                    "-" if seconds is None else f"{seconds:.1f}",
                    _short_commit(run.environment.get("git_commit")),
                    _code(str(command)) if command else "-",
                ]
            )
    header = ["Network", "Seed", "Test, last weights", "Test, best weights"]
    header += ["Validation", "Epochs", "Seconds", "Commit", "Command"]
    align = ["left"] + ["right"] * 6 + ["left"] * 2
    return tables.markdown_table(header, rows, align)


def _test_accuracy(run: Run, weights: str) -> str:
    """Return the accuracy on the test images, or a dash if it was not measured."""
    # A run that was tested on validation images has these as "test".
    return tables.accuracy(
        None if run.tested_on == "val" else run.accuracy("test", weights)
    )


def _short_commit(commit: Any) -> str:
    """Return the first ten digits of a commit, with its mark "-dirty" if any."""
    if not isinstance(commit, str):
        return "-"
    digits, _, mark = commit.partition("-")
    return f"{digits[:10]}-{mark}" if mark else digits[:10]


def _code(text: str) -> str:
    """Return Markdown that shows a text verbatim."""
    return f"`` {text} ``" if "`" in text else f"`{text}`"
