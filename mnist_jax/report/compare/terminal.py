"""Tables in a terminal, where rich wraps those that are too wide."""

from rich import box
from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

from mnist_jax.report.compare import findings, tables
from mnist_jax.report.compare.groups import Comparison
from mnist_jax.report.compare.tables import Table


def show(found: Comparison, console: Console, reference: str | None = None) -> None:
    """Print the table of results, the findings and the notes."""
    print_table(tables.results(found), tables.explanation(found), console)
    content = findings.table(found.groups, reference)
    if content.rows:
        console.print()
        print_table(content, [findings.EXPLANATION], console)


def print_table(table: Table, notes: list[str], console: Console) -> None:
    """Print a table and, below it, notes."""
    shown = RichTable(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for title, side in zip(table.header, table.align, strict=True):
        right = side == "right"
        shown.add_column(
            title, justify="right" if right else "left", no_wrap=right, overflow="fold"
        )
    for row in table.rows:
        shown.add_row(*map(Text, row))
    console.print(shown)
    console.print()
    for line in notes:
        console.print(Text(line, "dim"))
