"""A comparison in a terminal: as much of the table as fits, the rest in words."""

import textwrap
from collections.abc import Sequence

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from mnist_jax.report.comparison import separation
from mnist_jax.report.comparison.columns import (
    Column,
    Label,
    agree,
    best,
    columns_for,
    explanation,
    labels,
)
from mnist_jax.report.comparison.groups import Comparison, Group

# Of a terminal's first column: longer labels may be broken.
_LABEL_WIDTH = 26
# What a terminal makes of longer cells, by whether it is a wide one: lines of that.
_CELL_WIDTHS = {False: 14, True: 24}
_WIDE_TERMINAL = 100


def show(comparison: Comparison, console: Console) -> None:
    """Print the table, as many of its columns as fit, and what its figures are."""
    groups = comparison.groups
    row_labels, footnotes = labels(groups)
    columns = columns_for(groups)
    agreed = [column for column in columns if column.agreed and agree(column, groups)]
    columns = [column for column in columns if column not in agreed]
    fitting = _fitting(columns, groups, row_labels, console)
    console.print(_table(fitting, groups, row_labels, console))
    console.print()
    lines = [explanation(groups)]
    if agreed:
        everywhere = [column.agreed.format(column.cell(groups[0])) for column in agreed]
        rows = "All rows" if len(groups) > 1 else "The runs"
        lines.append(f"{rows}: {'; '.join(everywhere)}.")
    left_out = [column.title.lower() for column in columns if column not in fitting]
    if left_out:
        lines.append(
            f"No room for {', '.join(left_out)}: a wider terminal or "
            "--format=markdown shows all."
        )
    for line in lines + footnotes:
        console.print(line, style="dim", markup=False, highlight=False)
    if findings := separation.sentences(groups):
        console.print()
        for line in findings:
            console.print(line, markup=False, highlight=False)
    for line in comparison.notes:
        console.print(line, style="yellow", markup=False, highlight=False)


def _fitting(
    columns: Sequence[Column],
    groups: Sequence[Group],
    row_labels: Sequence[Label],
    console: Console,
) -> list[Column]:
    """Return as many of the columns as the console is wide enough for."""
    kept = list(columns)
    unlimited = console.options.update(width=10_000)
    while True:
        table = _table(kept, groups, row_labels, console)
        least = max(kept, key=lambda column: column.rank)
        # What has no rank stays, even if rich then has to break it.
        if (
            console.measure(table, options=unlimited).minimum <= console.width
            or not least.rank
        ):
            return kept
        kept.remove(least)


def _table(
    columns: Sequence[Column],
    groups: Sequence[Group],
    row_labels: Sequence[Label],
    console: Console,
) -> Table:
    """Return a table whose least width is the one at which it still reads well."""
    table = Table(
        box=box.SIMPLE_HEAD,
        show_edge=False,
        pad_edge=False,
        padding=(0, 1, 0, 0),
        header_style="bold",
    )
    first = ["\n".join([label.name, *label.details]) for label in row_labels]
    table.add_column(
        "Network",
        overflow="fold",
        min_width=min(_LABEL_WIDTH, _widest("Network", *first)),
    )
    cell_width = _CELL_WIDTHS[console.width >= _WIDE_TERMINAL]
    texts = [
        [_wrapped(column.cell(group), cell_width) for group in groups]
        for column in columns
    ]
    for column, cells in zip(columns, texts, strict=True):
        width = _widest(column.title, *cells)
        table.add_column(
            column.title, justify=column.align, overflow="fold", min_width=width
        )
    winners = best(groups)
    for place, label in enumerate(row_labels):
        details = "".join(f"\n{line}" for line in label.details)
        row = [Text.assemble(label.name, (details, "dim"))]
        for column, cells in zip(columns, texts, strict=True):
            wins = column.title == "Mean" and place in winners
            row.append(Text(cells[place], style="bold green" if wins else ""))
        table.add_row(*row)
    return table


def _widest(*texts: str) -> int:
    return max(len(line) for text in texts for line in text.split("\n"))


def _wrapped(text: str, width: int) -> str:
    """Return a text broken into lines, after its commas if it has any."""
    if ", " in text:  # textwrap takes no-break spaces for parts of a word
        text = text.replace(" ", "\N{NO-BREAK SPACE}")
        text = text.replace(",\N{NO-BREAK SPACE}", ", ")
    lines = textwrap.wrap(text, width, break_long_words=False, break_on_hyphens=False)
    return "\n".join(lines).replace("\N{NO-BREAK SPACE}", " ")
