"""The tables of a comparison."""

import re
from collections.abc import Callable, Sequence

from mnist_jax.report import render
from mnist_jax.report.compare.groups import Comparison, Group
from mnist_jax.report.record import Record
from mnist_jax.report.render import Table

# Title, cell of a group, alignment. Columns without content are left out.
_COLUMNS: tuple[tuple[str, Callable[[Group], str], str], ...] = (
    ("Data", lambda group: group.data, "left"),
    (
        "Images",
        lambda group: format(group.train_size, ",") if group.train_size else "all",
        "right",
    ),
    ("Accuracy", lambda group: _mean(group), "right"),
    ("n", lambda group: str(len(group.runs)), "right"),
    ("Report", lambda group: render.accuracy(group.report_accuracy), "right"),
    ("Parameters", lambda group: _range(group.numbers("parameters")), "right"),
    ("Epochs", lambda group: _range(group.numbers("epochs")), "right"),
    ("Time", lambda group: _time(group), "right"),
    ("Hardware", lambda group: group.hardware or "-", "left"),
    ("Command", lambda group: _command(group.first, short=True), "left"),
)


def results(found: Comparison, *, commands: bool = False) -> Table:
    """Return the table of results, with one row for each group."""
    shown = []
    for title, cell, side in _COLUMNS:
        cells = [cell(group) for group in found.groups]
        of_all = title in ("Data", "Images")
        different = len({*cells}) > 1 if of_all else {*cells} != {"-"}
        if different and (commands or title != "Command"):
            shown.append((title, cells, side))
    header, columns, align = zip(*shown, strict=True)
    names = [group.label for group in found.groups]
    rows = list(zip(names, *columns, strict=True))
    return Table(["Network", *header], rows, ["left", *align])


def every_run(found: Comparison) -> Table:
    """Return a table with one row for each run."""
    rows = []
    for group in found.groups:
        other = "best" if group.weights == "last" else "last"
        for run in group.runs:
            # A run that was tested on validation images has these as "test".
            on_test = run.tested_on == "test"
            test = run.results["test_accuracy"], run.accuracy("test", other)
            commit, *mark = str(run.environment.get("git_commit") or "-").split("-")
            rows.append(
                [
                    *(group.label, str(run.seed)),
                    group.weights if run.kind == "network" else "-",
                    *(render.accuracy(each if on_test else None) for each in test),
                    render.accuracy(run.accuracy("val", group.weights)),
                    _range([run.results.get("epochs")]),
                    _range([run.results.get("train_seconds")], ".1f"),
                    "-".join([commit[:10], *mark]),
                    _command(run),
                ]
            )
    header = ["Network", "Seed", "Weights", "Test", "Other weights", "Validation"]
    header += ["Epochs", "Seconds", "Commit", "Command"]
    align = ["left", "right", "left", *["right"] * 5, "left", "left"]
    return Table(header, rows, align)


def explanation(found: Comparison) -> list[str]:
    """Return the paragraphs below a table of results."""
    kinds = {"test": "test", "val": "validation"}
    sets = {
        f"the {kinds[run.tested_on]} images of {run.results['data']}"
        for run in (group.first for group in found.groups)
    }
    text = (
        f"Accuracy on {' and '.join(sorted(sets))}, mean ± sample standard deviation "
        "over n seeds. The weights are those of the last epoch or of the best one on "
        "the validation images, as the config says. Times are medians."
    )
    if any(group.report_accuracy for group in found.groups):
        text += " The report gives a single run."
    return [text, *found.notes]


def _time(group: Group) -> str:
    seconds = group.median_seconds
    if seconds is None:
        return "-"
    return f"{seconds / 60:.0f} min" if seconds >= 59.5 else render.duration(seconds)


def _mean(group: Group) -> str:
    sd = "" if group.sd is None else f" ± {render.accuracy(group.sd)}"
    return render.accuracy(group.mean) + sd


def _range(values: Sequence[float | None], spec: str = ",") -> str:
    known = [value for value in values if value is not None]
    ends = sorted({min(known), max(known)}) if known else []
    return "-".join(f"{value:{spec}}" for value in ends) or "-"


def _command(run: Record, *, short: bool = False) -> str:
    """Return the command of a run; the short one lacks its seed and its folder."""
    command = str(run.environment.get("command") or "")
    if short:
        flags = r" --(workdir|config\.seed)(=| )('[^']*'|\S+)"
        command = re.sub(flags, "", command)
    return render.code(command) if command else "-"
