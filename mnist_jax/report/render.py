"""Numbers and templates -> Markdown -> one HTML file that needs no other file.

The templates are in templates/NAME.md.j2. Every text that they insert is escaped, so
that names of classes, fields and files appear as they are, whatever characters they
have; `Markup` is inserted unchanged.
"""

import base64
import functools
import json
import re
from collections.abc import Sequence
from html import escape as escape_html
from pathlib import Path
from typing import Any, NamedTuple

import jinja2
from markdown_it import MarkdownIt
from markdown_it.renderer import RendererHTML
from markupsafe import Markup
from rich import box
from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

from mnist_jax.console import printable

_TEMPLATES = Path(__file__).with_name("templates")
# An underscore within a word does not emphasise, and would be hard to read escaped.
_SPECIAL = re.compile(r"[\\`*\[\]<>|&#~$]|(?<![^\W_])_|_(?![^\W_])")


def accuracy(value: float | None) -> str:
    """Return four decimals, or a dash for an undefined value."""
    return "-" if value is None else f"{value:.4f}"


def interval(bounds: Sequence[float]) -> str:
    """Return low and high, such as 0.9842-0.9887."""
    low, high = bounds
    return f"{low:.4f}-{high:.4f}"


def number(value: float | None) -> str:
    """Return three significant digits, or a dash for None."""
    return "-" if value is None else f"{value:.3g}"


def duration(seconds: float) -> str:
    """Return a time in the units that a person would use."""
    if seconds < 59.5:
        return f"{seconds:.2g} s"
    minutes, whole = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {whole:02d} s"


def count(number: int, noun: str) -> str:
    """Return a number with its noun, such as "1 image" or "10,000 images"."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def markdown(template: str, **context: Any) -> str:
    """Render templates/TEMPLATE.md.j2.

    Besides the context, a template has the function `fenced` and, as filters, `code`,
    `json` and the formats of numbers.
    """
    return _environment().get_template(f"{template}.md.j2").render(**context)


def escape(text: object) -> Markup:
    r"""Return Markdown that shows a text as it is, on one line.

    Example:
        >>> print(escape("a|b <i> *snake_case*"))
        a\|b \<i\> \*snake_case\*
    """
    if isinstance(text, Markup):
        return text
    return Markup(_SPECIAL.sub(r"\\\g<0>", " ".join(str(text).split())))


def code(text: str) -> Markup:
    """Return a text as code within a cell of a table, where | must be escaped."""
    shown = " ".join(text.split()).replace("|", r"\|")
    ticks = "`" * (1 + _longest("`", shown))
    edge = " " if shown.startswith("`") or shown.endswith("`") else ""
    return Markup(f"{ticks}{edge}{shown}{edge}{ticks}" if shown else "")


def fenced(text: str, language: str = "") -> Markup:
    """Return a code block whose fence is longer than any backticks in the text."""
    fence = "`" * max(3, 1 + _longest("`", text))
    return Markup(f"{fence}{language}\n{text.rstrip()}\n{fence}")


class Table(NamedTuple):
    """A table; rows and `align` are as long as the header."""

    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    """Their cells: text is escaped in Markdown, `Markup` is not."""
    align: Sequence[str]
    """Of each column, "left" or "right"."""

    def markdown(self) -> Markup:
        """Return it as Markdown, padded so that its source is readable too."""
        rows = [[str(escape(cell)) for cell in row] for row in self.rows]
        columns = []
        for side, title, *cells in zip(self.align, self.header, *rows, strict=True):
            right, head = side == "right", str(escape(title))
            width = max(3, *map(len, (head, *cells)))
            rule = "-" * (width - 1)
            texts = [head, f"{rule}:" if right else f":{rule}", *cells]
            pad = str.rjust if right else str.ljust
            columns.append([pad(text, width) for text in texts])
        lines = [" | ".join(cells) for cells in zip(*columns, strict=True)]
        return Markup("\n".join(f"| {line} |" for line in lines))

    def show(self, console: Console, *notes: str) -> None:
        """Print it, which rich wraps if it is too wide, and notes below it."""
        style: Any = {"box": box.SIMPLE_HEAD, "padding": (0, 1, 0, 0)}
        shown = RichTable(**style, show_edge=False, pad_edge=False)
        for title, side in zip(self.header, self.align, strict=True):
            right = side == "right"
            justify = "right" if right else "left"
            shown.add_column(title, justify=justify, no_wrap=right, overflow="fold")
        for row in self.rows:
            shown.add_row(*(Text(printable(cell)) for cell in row))
        console.print(shown)
        for line in ("", *notes):
            console.print(Text(line, "dim"))


def html(text: str, title: str, figures: Path) -> str:
    """Return Markdown from `markdown` as a page with its style and pictures inside.

    Args:
        text: Markdown.
        title: of the page.
        figures: the folder of the PNG files that the text's pictures name.

    Raises:
        OSError: a picture cannot be read.
    """
    style = (_TEMPLATES / "page.css").read_text(encoding="utf-8")
    body = _parser().render(text, {"figures": figures})
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape_html(title)}</title>\n<style>\n{style}</style>\n</head>\n"
        f"<body>\n<main>\n{body}</main>\n</body>\n</html>\n"
    )


@functools.cache
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES),
        finalize=escape,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.globals.update(fenced=fenced)
    formats = (accuracy, interval, number, duration, count, code)
    environment.filters.update({function.__name__: function for function in formats})
    environment.filters["json"] = functools.partial(json.dumps, indent=2)
    return environment


@functools.cache
def _parser() -> MarkdownIt:
    # Templates may use HTML such as <details>; in text that they insert, < is escaped.
    parser = MarkdownIt("commonmark", {"html": True}).enable("table")
    parser.add_render_rule("image", _image)
    parser.add_render_rule("table_open", lambda *_: '<div class="wide"><table>\n')
    parser.add_render_rule("table_close", lambda *_: "</table></div>\n")
    return parser


def _image(self: RendererHTML, tokens: Any, index: int, options: Any, env: Any) -> str:
    """Return a picture with its data."""
    token = tokens[index]
    path = env["figures"] / Path(token.attrs["src"]).name
    data = base64.b64encode(path.read_bytes()).decode()
    alt = escape_html(self.renderInlineAsText(token.children, options, env))
    return f'<img alt="{alt}" src="data:image/png;base64,{data}">'


def _longest(character: str, text: str) -> int:
    """Return the length of the longest run of a character."""
    return max((len(run) for run in re.findall(f"{character}+", text)), default=0)
