"""Templates, Markdown and HTML: every text appears as it is, and nothing is loaded."""

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from markupsafe import Markup

from mnist_jax.report import render

PIXEL = bytes.fromhex(
    "89504e470d0a1a0a0000000d4948445200000001000000010802000000907753de0000000c49444154"
    "08d763f8ffff3f0005fe02fea735819e0000000049454e44ae426082"
)
HOSTILE = "<script>alert(1)</script> | a`b` **c** [d](e) &amp; _f_ \\ $g$ ~~h~~ \n i"
texts = st.text("a1|`\n*_\\<>&[]()!#~$-:. é<script>", min_size=1)


class Reader(HTMLParser):
    """Checks that tags are balanced; collects texts, tables and addresses."""

    def __init__(self, text):
        super().__init__()
        self.open, self.links, self.sources, self.tags = [], [], [], set()
        self.texts = {"h1": [], "h2": [], "th": [], "td": [], "p": [], "code": []}
        self.rows: list[list[str]] = []
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        if tag not in ("meta", "img", "br"):
            self.open.append(tag)
        if tag in self.texts:
            self.texts[tag].append("")
        if tag == "tr":
            self.rows.append([])
        self.links += [value for name, value in attrs if name == "href"]
        self.sources += [value for name, value in attrs if name == "src"]

    def handle_endtag(self, tag):
        if tag not in ("meta", "img", "br"):
            assert self.open.pop() == tag
        if tag in ("th", "td"):
            self.rows[-1].append(self.texts[tag][-1])

    def handle_data(self, data):
        for tag in set(self.open) & self.texts.keys():
            self.texts[tag][-1] += data


def read(markdown):
    return Reader(render.html(markdown, "a title", Path()))


@given(texts)
@example(HOSTILE)
def test_any_text_appears_as_it_is_in_paragraphs_and_headings(text):
    shown = " ".join(text.split())
    page = read(f"# x{render.escape(text)}x\n\nx{render.escape(text)}x\n")
    assert page.texts["p"] == page.texts["h1"] == [f"x{shown}x"]
    assert page.tags == {"html", "head", "meta", "title", "style", "body", "main"} | {
        *("h1", "p")
    }


@given(st.lists(st.tuples(texts, texts), min_size=2, max_size=4))
@example([[HOSTILE, "b"], [HOSTILE, "a\\|b"]])
def test_any_text_appears_as_it_is_in_the_cells_of_a_table(rows):
    table = render.Table(rows[0], rows[1:], ["left"] * len(rows[0])).markdown()
    page = read(table)
    shown = [[" ".join(cell.split()) for cell in row] for row in rows]
    assert page.texts["th"] == shown[0]
    assert page.texts["td"] == [cell for row in shown[1:] for cell in row]
    assert len({len(line) for line in table.splitlines()}) == 1  # readable as source


@given(texts)
@example(HOSTILE)
def test_any_text_appears_as_it_is_in_code(text):
    shown = " ".join(text.split())
    page = read(render.Table(["x"], [[render.code(text)]], ["left"]).markdown())
    assert page.texts["td"] == [shown]
    assert read(render.fenced(f"x{text}x")).texts["code"] == [f"x{text}x\n"]


def test_templates_escape_what_they_insert_and_nothing_twice(tmp_path, monkeypatch):
    monkeypatch.setattr(render, "_TEMPLATES", tmp_path)
    render._environment.cache_clear()
    (tmp_path / "one.md.j2").write_text(
        "{{ text }}\n\n| {{ text }} |\n| - |\n\n"
        "{{ [text, text] | join(' ') }} {{ 0.5 | accuracy }}\n"
    )
    markdown = render.markdown("one", text=HOSTILE)
    monkeypatch.undo()
    render._environment.cache_clear()
    page = read(markdown)
    shown = " ".join(HOSTILE.split())
    assert page.texts["p"] == [shown, f"{shown} {shown} 0.5000"]
    assert page.texts["th"] == [shown]


def test_markup_is_inserted_unchanged():
    assert render.escape(Markup("**a**")) == "**a**"
    table = render.Table(["a"], [[Markup("**b**")]], ["left"])
    assert read(table.markdown()).texts["td"] == ["b"]


@pytest.mark.parametrize(
    ("rows", "align"), [([["1"]], ["left"] * 2), ([["1", "2"]], ["left"])]
)
def test_a_ragged_table_is_refused(rows, align):
    with pytest.raises(ValueError):
        render.Table(["a", "b"], rows, align).markdown()


def test_a_page_has_its_pictures_inside_and_loads_nothing(tmp_path):
    (tmp_path / "dot.png").write_bytes(PIXEL)
    title = render.escape(HOSTILE)
    text = render.html(f"![{title}](figures/dot.png)", HOSTILE, tmp_path)
    page = Reader(text)
    (source,) = page.sources
    assert source.startswith("data:image/png;base64,")
    assert not page.links and not page.tags & {"script", "link"}
    assert not re.search(r"@import|url\(", text)
