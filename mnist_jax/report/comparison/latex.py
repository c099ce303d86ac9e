"""A comparison as a LaTeX table, for a paper."""

from collections.abc import Iterable

from mnist_jax.report.comparison.columns import columns_for, explanation, labels
from mnist_jax.report.comparison.groups import Comparison

_ESCAPES = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "°": r"\textdegree{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
} | {sign: f"\\{sign}" for sign in "&%$#_{}"}


def to_latex(comparison: Comparison) -> str:
    """Return a tabular for the package booktabs; comments say what its figures are."""
    groups = comparison.groups
    row_labels, footnotes = labels(groups)
    columns = columns_for(groups)
    notes = [explanation(groups), *footnotes, *comparison.notes]
    lines = [f"% {line}" for note in notes for line in note.splitlines()]
    sides = "".join(column.align[0] for column in columns)
    header = ["Network", *(column.title for column in columns)]
    lines += [rf"\begin{{tabular}}{{l{sides}}}", r"\toprule", _row(map(escape, header))]
    lines.append(r"\midrule")
    for group, label in zip(groups, row_labels, strict=True):
        cells = [str(label), *(column.cell(group) for column in columns)]
        lines.append(_row(map(escape, cells)))
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}"]) + "\n"


def escape(text: str) -> str:
    """Return LaTeX that shows a text as it is."""
    return "".join(_ESCAPES.get(sign, sign) for sign in text)


def _row(cells: Iterable[str]) -> str:
    return " & ".join(cells) + r" \\"
