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
)
# Those of a narrow terminal.
_NARROW = ("Data", "Images", "Accuracy", "n", "Time")
_SHORT = 8
"""Rows of the short table, at most."""
_DEVICE = re.compile(r"CPU, |NVIDIA |, \w*float\w*")
"""The parts of a run's hardware that the short table leaves out."""


EXPLANATION = (
    "Accuracy on the test images, mean ± sample standard deviation over n seeds. Times "
    "are medians. Report: the accuracy of the student report, of a single run."
)


def results(found: Comparison, *, narrow: bool = False) -> Table:
    """Return the table of results, with one row for each group."""
    shown = []
    for title, cell, side in _COLUMNS:
        cells = [cell(group) for group in found.groups]
        of_all = title in ("Data", "Images")
        different = len({*cells}) > 1 if of_all else {*cells} != {"-"}
        if different and (title in _NARROW or not narrow):
            shown.append((title, cells, side))
    header, columns, align = zip(*shown, strict=True)
    names = [group.label for group in found.groups]
    rows = list(zip(names, *columns, strict=True))
    return Table(["Network", *header], rows, ["left", *align])


def short(found: Comparison) -> Table:
    """Return a narrow table of the recommended recipes, with their commands.

    For each network it has the recipe with the highest accuracy on the validation
    images, of those for the first data set. Of more than eight networks, those of the
    report precede others.
    """
    first, best = found.groups[0], dict[str, Group]()
    for group in sorted(found.groups, key=lambda g: g.val_accuracy, reverse=True):
        same = (group.data, group.train_size) == (first.data, first.train_size)
        if same and group.first.kind == "network":
            best.setdefault(group.first.model, group)
    chosen = sorted(best.values(), key=lambda g: not g.report_accuracy)[:_SHORT]
    rows = [
        [
            *(group.first.model, _mean(group), str(len(group.runs))),
            _range(group.numbers("parameters")),
            f"{_time(group)}, {_DEVICE.sub('', group.hardware)}",
            _command(group.first, short=True),
        ]
        for group in found.groups
        if group in chosen
    ]
    header = ["Network", "Accuracy", "n", "Parameters", "Time", "Command"]
    return Table(header, rows, ["left", *["right"] * 4, "left"])


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
    """Return the command of a run; the short one trains it anywhere, with seed 0."""
    command = str(run.environment.get("command") or "")
    if short:
        # ImageNet's weights are found, or downloaded, without a flag.
        local = re.compile(r"'?--config\.(seed|model\.pretrained)=")
        words = re.findall(r"'--config[^']*'|--config\S*", command)
        words = [word for word in words if not local.match(word)]
        command = " ".join(["mnist-jax train", *words])
        command = command.replace("=configs/", "=").replace(".py", "")
    return render.code(command) if command else "-"
