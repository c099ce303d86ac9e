"""A comparison in a terminal, where rich wraps tables that are too wide."""

from rich import box
from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

from mnist_jax.report.compare import findings, tables
from mnist_jax.report.compare.groups import Comparison
from mnist_jax.report.compare.tables import Table


def show(found: Comparison, console: Console, reference: str | None = None) -> None:
    """Print the table of results, the findings and the notes."""
    console.print(rich_table(tables.results(found)))
    console.print()
    for line in tables.explanation(found):
        console.print(Text(line, "dim"))
    content = findings.table(found.groups, reference)
    if content.rows:
        console.print()
        console.print(rich_table(content))
        console.print()
        console.print(Text(findings.EXPLANATION, "dim"))


def rich_table(content: Table) -> RichTable:
    """Return a table for a rich console."""
    table = RichTable(
        box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0)
    )
    for title, side in zip(content.header, content.align, strict=True):
        table.add_column(
            title,
            justify="left" if side == "left" else "right",
            overflow="fold",
            no_wrap=side == "right",
        )
    for row in content.rows:
        table.add_row(*map(Text, row))
    return table
