"""A page as Markdown, for GitHub and for reading the source."""

from collections.abc import Iterable
from typing import assert_never

from mnist_jax.report.sections import Block, Code, Folded, Page, Picture, Table, Text
from mnist_jax.report.tables import fenced, markdown_table


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
