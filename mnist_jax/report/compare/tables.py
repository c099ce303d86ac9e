"""The tables of a comparison."""

import csv
import io
import re
import statistics
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from markupsafe import Markup
from rich import box
from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

from mnist_jax.errors import UserError
from mnist_jax.report import render, tables
from mnist_jax.report.compare.groups import Comparison, Group
from mnist_jax.report.record import Record
from mnist_jax.runs.folder import damaged, read_json


class Table(NamedTuple):
    """A table; rows and `align` are as long as the header."""

    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    align: Sequence[str]
    """Of each column, "left" or "right"."""

    def markdown(self) -> Markup:
        """Return it as Markdown."""
        return render.table(*self)

    def csv(self) -> str:
        """Return it as CSV."""
        file = io.StringIO()
        csv.writer(file, lineterminator="\n").writerows([self.header, *self.rows])
        return file.getvalue()

    def show(self, console: Console, *notes: str) -> None:
        """Print it, which rich wraps if it is too wide, and notes below it."""
        style: Any = {"box": box.SIMPLE_HEAD, "padding": (0, 1, 0, 0)}
        shown = RichTable(**style, show_edge=False, pad_edge=False)
        for title, side in zip(self.header, self.align, strict=True):
            right = side == "right"
            justify = "right" if right else "left"
            shown.add_column(title, justify=justify, no_wrap=right, overflow="fold")
        for row in self.rows:
            shown.add_row(*map(Text, row))
        console.print(shown)
        for line in ("", *notes):
            console.print(Text(line, "dim"))

    def latex(self) -> str:
        """Return it as a tabular for the package booktabs."""
        head, *body = (
            " & ".join(map(_escape_latex, row)) + r" \\"
            for row in (self.header, *self.rows)
        )
        begin = rf"\begin{{tabular}}{{{''.join(side[0] for side in self.align)}}}"
        lines = [begin, r"\toprule", head, r"\midrule", *body, r"\bottomrule"]
        return "\n".join([*lines, r"\end{tabular}"]) + "\n"


# Title, cell of a group, alignment. Columns without content are left out.
_COLUMNS: tuple[tuple[str, Callable[[Group], str], str], ...] = (
    ("Data", lambda group: str(group.first.results["data"]), "left"),
    ("Accuracy", lambda group: _mean(group), "right"),
    ("n", lambda group: str(len(group.runs)), "right"),
    ("Report", lambda group: tables.accuracy(group.report_accuracy), "right"),
    ("Damaged", lambda group: _damaged(group), "right"),
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
        different = len({*cells}) > 1 if title == "Data" else {*cells} != {"-"}
        if different and (commands or title != "Command"):
            shown.append((title, cells, side))
    header, columns, align = zip(*shown, strict=True)
    rows = list(zip(labels(found.groups), *columns, strict=True))
    return Table(["Network", *header], rows, ["left", *align])


def every_run(found: Comparison) -> Table:
    """Return a table with one row for each run."""
    rows = []
    for group, label in zip(found.groups, labels(found.groups), strict=True):
        other = "best" if group.weights == "last" else "last"
        for run in group.runs:
            # A run that was tested on validation images has these as "test".
            on_test = run.tested_on == "test"
            test = run.results["test_accuracy"], run.accuracy("test", other)
            commit, *mark = str(run.environment.get("git_commit") or "-").split("-")
            rows.append(
                [
                    *(label, str(run.seed), group.weights or "-"),
                    *(tables.accuracy(each if on_test else None) for each in test),
                    tables.accuracy(run.accuracy("val", group.weights)),
                    _range([run.number("epochs")]),
                    _range([run.number("train_seconds")], ".1f"),
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


def labels(groups: Sequence[Group]) -> list[str]:
    """Return a label for each group."""
    found = []
    for group in groups:
        name = group.first.name
        details = [] if name.startswith(group.model) else [group.model]
        if group.first.tested_on == "val":
            details.append("on validation images")
        details += [*group.differences[:3], *(["..."] if group.differences[3:] else [])]
        found.append(f"{name} ({', '.join(details)})" if details else name)
    return [
        f"{label}, images {group.images!s:.8}" if found.count(label) > 1 else label
        for label, group in zip(found, groups, strict=True)
    ]


def _time(group: Group) -> str:
    seconds = group.median_seconds
    if seconds is None:
        return "-"
    return f"{seconds / 60:.0f} min" if seconds >= 59.5 else tables.duration(seconds)


def _mean(group: Group) -> str:
    sd = "" if group.sd is None else f" ± {tables.accuracy(group.sd)}"
    return tables.accuracy(group.mean) + sd


def _damaged(group: Group) -> str:
    """Return the mean accuracy on damaged images, of `mnist-jax evaluate`.

    It says for how many runs it was measured, and on how many images, if not for all.
    """
    found = [one for run in group.runs if (one := _robustness(run))]
    if not found:
        return "-"
    remarks = [f"n = {len(found)}"] if len(found) < len(group.runs) else []
    remarks += sorted({f"{size:,} images" for _, size, all_ in found if size < all_})
    mean = statistics.mean(mean for mean, *_ in found)
    return tables.accuracy(mean) + (f" ({', '.join(remarks)})" if remarks else "")


def _robustness(run: Record) -> tuple[float, int, int] | None:
    """Return the mean on damaged images, their number, and that of all images."""
    path = run.folder / "evaluation" / "evaluation.json"
    if not path.exists():
        return None
    try:
        (entry,) = read_json(path)["runs"]
        if entry["parameters_sha256"] != run.results.get("parameters_sha256"):
            raise UserError(
                f"{path} is about other weights than results.json. `mnist-jax evaluate "
                f"{run.folder} --robustness` writes it again; or remove it."
            )
        if not (found := entry.get("robustness")):
            return None
        if "mean_corrupted_accuracy" in found:
            raise UserError(
                f"{path} is of an earlier version, with other kinds of damage. Repeat "
                f"`mnist-jax evaluate {run.folder} --robustness`, or remove the file."
            )
        mean, size = float(found["mean_damaged_accuracy"]), int(found["examples"])
        return mean, size, int(entry["evaluation"]["examples"])
    except (AttributeError, LookupError, TypeError, ValueError) as error:
        raise damaged(path, error) from error


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


def _escape_latex(text: str) -> str:
    signs = {sign: f"\\{sign}" for sign in "&%$#_{}"} | {"\\": r"\textbackslash{}"}
    signs |= {"~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "±": r"$\pm$"}
    return "".join(signs.get(sign, sign) for sign in text)
