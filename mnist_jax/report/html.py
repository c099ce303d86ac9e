"""A page as one HTML file that needs no other file, no script and no network."""

import base64
import re
from collections.abc import Iterable
from html import escape
from pathlib import Path
from typing import assert_never

from mnist_jax.report.sections import Block, Code, Folded, Page, Picture, Table, Text

_STYLE = """\
:root {
  color-scheme: light dark;
  --page: #ffffff; --ink: #1f2328; --muted: #59636e; --line: #d1d9e0;
  --soft: #f6f8fa; --link: #0969da; --picture: none;
}
@media (prefers-color-scheme: dark) {
  :root {
    --page: #1c1c1c; --ink: #e6e6e6; --muted: #a3a3a3; --line: #444444;
    --soft: #292929; --link: #6cb0f5;
    /* White paper becomes the page's grey, ink becomes light, hues stay. */
    --picture: invert(0.89) hue-rotate(180deg);
  }
}
* { box-sizing: border-box; }
body {
  margin: 0; background: var(--page); color: var(--ink);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif;
}
main { max-width: 860px; margin: 0 auto; padding: 24px 16px 64px; }
h1 { font-size: 1.7rem; line-height: 1.25; overflow-wrap: anywhere; }
h2 {
  font-size: 1.25rem; margin: 2.4em 0 0.8em; padding-bottom: 0.25em;
  border-bottom: 1px solid var(--line);
}
p { overflow-wrap: anywhere; }
a { color: var(--link); }
code, pre {
  font-family: ui-monospace, SFMono-Regular, Menlo, Consolas, "DejaVu Sans Mono",
    monospace;
  font-size: 0.86em;
}
code { background: var(--soft); border-radius: 4px; padding: 0.1em 0.3em; }
pre { background: var(--soft); border-radius: 6px; padding: 12px; line-height: 1.4; }
pre code { background: none; padding: 0; font-size: 1em; }
/* On a narrow screen these scroll, not the page. */
.wide, pre { overflow-x: auto; }
/* On a wide one, tables may be wider than the text. */
@media (min-width: 900px) {
  .wide {
    width: fit-content; min-width: 100%; max-width: calc(100vw - 32px);
    margin-left: 50%; transform: translateX(-50%);
  }
}
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: 5px 8px; border-bottom: 1px solid var(--line); text-align: left; }
th { color: var(--muted); font-weight: 600; vertical-align: bottom; }
.right { text-align: right; }
td.right { white-space: nowrap; }
.center { text-align: center; }
img { display: block; width: 100%; min-width: 600px; filter: var(--picture); }
summary { cursor: pointer; color: var(--link); }
"""
_INLINE = re.compile(
    r"`(?P<code>[^`]+)`"
    r"|\*\*(?P<strong>[^*]+)\*\*"
    r"|\[(?P<text>[^][]+)\]\((?P<target>[^()\s]+)\)"
)


def render(page: Page, figures: Path) -> str:
    """Return the page with its style and pictures inside it.

    Args:
        page: to be rendered.
        figures: the folder of the PNG files that its pictures name.

    Raises:
        OSError: a picture cannot be read.
    """
    parts = [f"<h1>{inline(page.title)}</h1>", *_blocks(page.introduction, figures)]
    for section in page.sections:
        parts += ["<section>", f"<h2>{inline(section.title)}</h2>"]
        parts += [*_blocks(section.blocks, figures), "</section>"]
    body = "\n".join(parts)
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(page.title)}</title>\n<style>\n{_STYLE}</style>\n</head>\n"
        f"<body>\n<main>\n{body}\n</main>\n</body>\n</html>\n"
    )


def inline(text: str) -> str:
    """Return text as HTML: escaped, with its **bold** words, `code` and [links](to)."""
    parts, end = [], 0
    for found in _INLINE.finditer(text):
        parts.append(escape(text[end : found.start()]))
        end = found.end()
        if found["code"]:
            parts.append(f"<code>{escape(found['code'])}</code>")
        elif found["strong"]:
            parts.append(f"<strong>{escape(found['strong'])}</strong>")
        else:
            target = escape(found["target"])
            parts.append(f'<a href="{target}">{escape(found["text"])}</a>')
    return "".join(parts) + escape(text[end:])


def _blocks(blocks: Iterable[Block], figures: Path) -> Iterable[str]:
    for block in blocks:
        match block:
            case Text(text):
                yield f"<p>{inline(text)}</p>"
            case Table():
                yield _table(block)
            case Code(text, _):
                yield f"<pre><code>{escape(text.rstrip())}</code></pre>"
            case Picture(name, title):
                data = base64.b64encode((figures / f"{name}.png").read_bytes())
                source = f"data:image/png;base64,{data.decode()}"
                image = f'<img alt="{escape(title)}" src="{source}">'
                yield f'<div class="wide">{image}</div>'
            case Folded(summary, inner):
                yield f"<details>\n<summary>{inline(summary)}</summary>"
                yield from _blocks(inner, figures)
                yield "</details>"
            case _:
                assert_never(block)


def _table(table: Table) -> str:
    rows = [_row("th", table.header, table.align), "</thead>", "<tbody>"]
    rows += [_row("td", cells, table.align) for cells in table.rows]
    body = "\n".join(rows)
    return f'<div class="wide"><table>\n<thead>\n{body}\n</tbody>\n</table></div>'


def _row(tag: str, cells: Iterable[str], align: Iterable[str]) -> str:
    return (
        "<tr>"
        + "".join(
            f'<{tag} class="{side}">{inline(text)}</{tag}>'
            for text, side in zip(cells, align, strict=True)
        )
        + "</tr>"
    )
