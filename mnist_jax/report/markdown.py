"""A page as Markdown, for GitHub and for reading the source."""

import re
from collections.abc import Iterable, Sequence
from typing import assert_never

from mnist_jax.report.sections import Block, Code, Folded, Page, Picture, Table, Text


def render(page: Page, figures: str = "figures/") -> str:
    """Return the page; its pictures are links to a folder, "" for the page's own."""
    parts = [f"# {page.title}", *_blocks(page.introduction, figures)]
    for section in page.sections:
        parts += [f"## {section.title}", *_blocks(section.blocks, figures)]
    return "\n\n".join(parts) + "\n"


def _blocks(blocks: Iterable[Block], figures: str) -> Iterable[str]:
    for block in blocks:
        match block:
            case Text(text):
                yield text
            case Table(header, rows, align):
                yield markdown_table(header, rows, align)
            case Code(text, language):
                yield fenced(text, language)
            case Picture(name, title):
                yield f"![{title}]({figures}{name}.png)"
            case Folded(summary, inner):
                yield f"<details>\n<summary>{summary}</summary>"
                yield from _blocks(inner, figures)
                yield "</details>"
            case _:
                assert_never(block)


_RULES = {"left": ":--", "right": "--:", "center": ":-:"}


def markdown_table(
    header: Sequence[str], rows: Sequence[Sequence[str]], align: Sequence[str]
) -> str:
    """Return a table, padded so that its source is readable too.

    Args:
        header: titles of the columns.
        rows: cells, one per column.
        align: "left", "right" or "center", one per column.

    Raises:
        ValueError: a row or `align` is not as long as the header.
    """
    for line, what in [(align, "alignments"), *((row, "cells") for row in rows)]:
        if len(line) != len(header):
            raise ValueError(f"{len(header)} columns but {len(line)} {what}: {line}")
    cells = [
        [text.replace("|", r"\|").replace("\n", " ") for text in line]
        for line in (header, *rows)
    ]
    widths = [max(3, *map(len, column)) for column in zip(*cells, strict=True)]
    padded = [
        [
            text.rjust(width) if side == "right" else text.ljust(width)
            for text, width, side in zip(line, widths, align, strict=True)
        ]
        for line in cells
    ]
    rules = [
        _RULES[side].replace("-", "-" * (width - 2), 1)
        for width, side in zip(widths, align, strict=True)
    ]
    return "\n".join(
        f"| {' | '.join(line)} |" for line in (padded[0], rules, *padded[1:])
    )


def fenced(text: str, language: str = "") -> str:
    """Return a code block whose fence is longer than any backticks in the text."""
    longest = max((len(run) for run in re.findall("`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{language}\n{text.rstrip()}\n{fence}"
