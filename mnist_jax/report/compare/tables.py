"""The tables of a comparison."""

import csv
import io
import re
import statistics
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from markupsafe import Markup

from mnist_jax.errors import UserError
from mnist_jax.report import render, tables
from mnist_jax.report.compare.groups import Comparison, Group
from mnist_jax.report.record import Record
from mnist_jax.runs.folder import damaged, read_json

# Up to this many differences are shown beside a name; more go to a footnote.
_DIFFERENCES_SHOWN = 2


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
    ("Data", lambda group: str(group.first.results.get("data", "-")), "left"),
    ("Accuracy", lambda group: _mean(group), "right"),
    ("n", lambda group: str(len(group.runs)), "right"),
    ("Report", lambda group: tables.accuracy(group.report_accuracy), "right"),
    ("Damaged", lambda group: _damaged(group), "right"),
    ("Parameters", lambda group: _range(group.numbers("parameters")), "right"),
    ("Epochs", lambda group: _range(group.numbers("epochs")), "right"),
    ("Time", lambda group: duration(group.median_seconds), "right"),
    ("Hardware", lambda group: hardware(group) or "-", "left"),
    ("Command", lambda group: _short_command(group.first), "left"),
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
    rows = list(zip(labels(found.groups)[0], *columns, strict=True))
    return Table(["Network", *header], rows, ["left", *align])


def every_run(found: Comparison) -> Table:
    """Return a table with one row for each run."""
    rows = [
        [label, str(run.seed), *_run_cells(run, group.weights)]
        for group, label in zip(found.groups, labels(found.groups)[0], strict=True)
        for run in group.runs
    ]
    header = ["Network", "Seed", "Test", "Weights", "Other weights", "Validation"]
    header += ["Epochs", "Seconds", "Commit", "Command"]
    align = ["left", "right", "right", "left", *["right"] * 4, "left", "left"]
    return Table(header, rows, align)


def _run_cells(run: Record, weights: str) -> list[str]:
    # A run that was tested on validation images has these as "test".
    on_test = run.tested_on == "test"
    other = run.accuracy("test", "best" if weights == "last" else "last")
    epochs, seconds = run.number("epochs"), run.number("train_seconds")
    commit, _, mark = str(run.environment.get("git_commit") or "-").partition("-")
    return [
        tables.accuracy(run.results["test_accuracy"] if on_test else None),
        weights or "-",
        tables.accuracy(other if on_test else None),
        tables.accuracy(run.accuracy("val", weights)),
        "-" if epochs is None else str(epochs),
        "-" if seconds is None else f"{seconds:.1f}",
        f"{commit[:10]}-{mark}" if mark else commit[:10] or "-",
        _code(run.environment.get("command")),
    ]


def explanation(found: Comparison) -> list[str]:
    """Return the paragraphs below a table of results."""
    kinds = {"test": "test", "val": "validation"}
    sets = {
        f"the {kinds[run.tested_on]} images of {run.results.get('data')}"
        for run in (group.first for group in found.groups)
    }
    text = (
        f"Accuracy on {' and '.join(sorted(sets))}, mean ± sample standard deviation "
        "over n seeds. The weights are those of the last epoch or of the best one on "
        "the validation images, as the config says. Times are medians."
    )
    if any(group.report_accuracy for group in found.groups):
        text += " The report gives a single run."
    return [text, *labels(found.groups)[1], *found.notes]


def labels(groups: Sequence[Group]) -> tuple[list[str], list[str]]:
    """Return a label for each group, and footnotes for differences too long for it."""
    found, footnotes = [], []
    for group in groups:
        name = group.first.name
        details = [] if name.startswith(group.model) else [group.model]
        if group.first.tested_on == "val":
            details.append("on validation images")
        if len(group.differences) <= _DIFFERENCES_SHOWN:
            details += group.differences
        else:
            name += f" [{len(footnotes) + 1}]"
            footnotes.append(f"{name}: {', '.join(group.differences)}.")
        found.append(f"{name} ({', '.join(details)})" if details else name)
    return [
        f"{label}, images {group.images!s:.8}" if found.count(label) > 1 else label
        for label, group in zip(found, groups, strict=True)
    ], footnotes


def duration(seconds: float | None) -> str:
    """Return a time, rounded to minutes if it is longer than one: "1 h 23 min"."""
    if seconds is None:
        return "-"
    if round(seconds) < 60:
        return tables.duration(seconds)
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min"


def hardware(group: Group) -> str:
    """Return the hardware of the runs; "" if unknown."""
    return " and ".join(
        dict.fromkeys(run.hardware for run in group.runs if run.hardware)
    )


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
    parts = {one["examples"] for one in found if one["part"]}
    remarks += [f"{size:,} images" for size in sorted(parts)]
    mean = statistics.mean(one["mean_corrupted_accuracy"] for one in found)
    return tables.accuracy(mean) + (f" ({', '.join(remarks)})" if remarks else "")


def _robustness(run: Record) -> dict[str, Any] | None:
    path = run.folder / "evaluation" / "evaluation.json"
    if not path.exists():
        return None
    try:
        (entry,) = read_json(path)["runs"]
        examples = entry["evaluation"]["examples"]
        if entry["parameters_sha256"] != run.results.get("parameters_sha256"):
            raise UserError(
                f"{path} is about other weights than results.json. `mnist-jax evaluate "
                f"{run.folder} --robustness` writes it again; or remove it."
            )
        if found := entry.get("robustness"):
            mean, part = found["mean_corrupted_accuracy"], found["examples"] < examples
            return found | {"mean_corrupted_accuracy": float(mean), "part": part}
    except (AttributeError, LookupError, TypeError, ValueError) as error:
        raise damaged(path, error) from error
    return None


def _range(numbers: Sequence[float]) -> str:
    ends = sorted({min(numbers), max(numbers)}) if numbers else []
    return "-".join(f"{number:,}" for number in ends) or "-"


def _short_command(run: Record) -> str:
    """Return the command of a run, without its seed and its folder."""
    flags = r" --(workdir|config\.seed)(=| )('[^']*'|\S+)"
    return _code(re.sub(flags, "", str(run.environment.get("command") or "")))


def _code(text: Any) -> str:
    return render.code(str(text)) if text else "-"


def _escape_latex(text: str) -> str:
    signs = {sign: f"\\{sign}" for sign in "&%$#_{}"} | {"\\": r"\textbackslash{}"}
    signs |= {"~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "±": r"$\pm$"}
    return "".join(signs.get(sign, sign) for sign in text)
