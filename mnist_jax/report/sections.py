"""The contents of a page, independent of the output format.

`markdown.render` and `html.render` turn a `Page` into text. Texts and the cells of
tables may have **bold** words, `code` and [links](target), as in Markdown.
"""

from collections.abc import Sequence
from typing import NamedTuple, TypeAlias


class Text(NamedTuple):
    """A paragraph."""

    text: str


class Table(NamedTuple):
    """A table; rows and `align` (left, right, center) are as long as the header."""

    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    align: Sequence[str]


class Code(NamedTuple):
    """Lines shown verbatim, in a language such as "sh", or "" for plain text."""

    text: str
    language: str = ""


class Picture(NamedTuple):
    """The file figures/NAME.png, and what it shows."""

    name: str
    title: str


class Folded(NamedTuple):
    """Blocks that are hidden until the reader opens them."""

    summary: str
    blocks: "Sequence[Block]"


Block: TypeAlias = Text | Table | Code | Picture | Folded


class Section(NamedTuple):
    """A heading and what is below it."""

    title: str
    blocks: Sequence[Block]


class Page(NamedTuple):
    """A title, an introduction without a heading, and sections."""

    title: str
    introduction: Sequence[Block]
    sections: Sequence[Section]
