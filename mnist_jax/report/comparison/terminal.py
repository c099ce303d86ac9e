"""A comparison in a terminal: the columns that fit, and what the rest would say."""

import textwrap
from collections.abc import Sequence

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from mnist_jax.report.comparison import columns, separation
from mnist_jax.report.comparison.columns import Column, Label
from mnist_jax.report.comparison.groups import Comparison, Group

_LABEL_WIDTH = 26  # of the first column; longer labels may be wrapped
# Longer cells are wrapped, in terminals of at least _WIDE_TERMINAL to the second width.
_CELL_WIDTHS = (14, 24)
_WIDE_TERMINAL = 100


def show(comparison: Comparison, console: Console) -> None:
    """Print the columns of the table that fit, its explanation and notes."""
    groups = comparison.groups
    labels, footnotes = columns.labels(groups)
    agreed, varying = [], []
    for column in columns.columns_for(groups):
        agrees = column.agreed and columns.agree(column, groups)
        (agreed if agrees else varying).append(column)
    fitting = _fitting(varying, groups, labels, console)
    console.print(_table(fitting, groups, labels, console))
    console.print()
    lines = [columns.explanation(groups)]
    if agreed:
        values = [column.agreed.format(column.cell(groups[0])) for column in agreed]
        rows = "All rows" if len(groups) > 1 else "The runs"
        lines.append(f"{rows}: {'; '.join(values)}.")
    left_out = [column.title.lower() for column in varying if column not in fitting]
    if left_out:
        lines.append(
            f"No room for {', '.join(left_out)}: a wider terminal or "
            "--format=markdown shows all."
        )
    for line in lines + footnotes:
        console.print(Text(line, "dim"))
    if findings := separation.sentences(groups):
        console.print()
        for line in findings:
            console.print(Text(line))
    for line in comparison.notes:
        console.print(Text(line, "yellow"))


def _fitting(
    wanted: Sequence[Column],
    groups: Sequence[Group],
    labels: Sequence[Label],
    console: Console,
) -> list[Column]:
    """Return as many of the columns as fit into the console."""
    kept = list(wanted)
    unlimited = console.options.update(width=10_000)
    while True:
        table = _table(kept, groups, labels, console)
        least = max(kept, key=lambda column: column.rank)
        fits = console.measure(table, options=unlimited).minimum <= console.width
        if fits or not least.rank:  # columns without a rank stay, wrapped by rich
            return kept
        kept.remove(least)


def _table(
    shown: Sequence[Column],
    groups: Sequence[Group],
    labels: Sequence[Label],
    console: Console,
) -> Table:
    """Return a table whose minimum width is the least that reads well."""
    table = Table(
        box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0)
    )
    lines = [line for label in labels for line in (label.name, *label.details)]
    width = min(_LABEL_WIDTH, _widest("Network", *lines))
    table.add_column("Network", overflow="fold", min_width=width)
    rows = [
        [Text.assemble(label.name, *((f"\n{line}", "dim") for line in label.details))]
        for label in labels
    ]
    cell_width = _CELL_WIDTHS[console.width >= _WIDE_TERMINAL]
    for column in shown:
        cells = [_wrapped(column.cell(group), cell_width) for group in groups]
        width = _widest(column.title, *cells)
        table.add_column(
            column.title, justify=column.align, overflow="fold", min_width=width
        )
        for row, cell in zip(rows, cells, strict=True):
            row.append(Text(cell))
    for row in rows:
        table.add_row(*row)
    return table


def _widest(*texts: str) -> int:
    return max(len(line) for text in texts for line in text.split("\n"))


def _wrapped(text: str, width: int) -> str:
    """Wrap a text, after its commas if it has any."""
    if ", " in text:  # textwrap does not break at no-break spaces
        text = text.replace(" ", "\N{NO-BREAK SPACE}")
        text = text.replace(",\N{NO-BREAK SPACE}", ", ")
    lines = textwrap.wrap(text, width, break_long_words=False, break_on_hyphens=False)
    return "\n".join(lines).replace("\N{NO-BREAK SPACE}", " ")
