"""report.html: valid, self-contained, and with the sections of report.md."""

import re
from html.parser import HTMLParser

import pytest

from mnist_jax.report import html

VOID = {"meta", "img"}


class Reader(HTMLParser):
    """Checks that tags are balanced; collects headings, cells and addresses."""

    def __init__(self):
        super().__init__()
        self.open, self.links, self.sources = [], [], []
        self.texts = {"h1": [], "h2": [], "th": [], "td": []}

    def handle_starttag(self, tag, attrs):
        if tag not in VOID:
            self.open.append(tag)
        if tag in self.texts:
            self.texts[tag].append("")
        for name, value in attrs:
            if name == "href":
                self.links.append(value)
            elif name == "src":
                self.sources.append(value)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        for tag in self.open:
            if tag in self.texts:
                self.texts[tag][-1] += data


def read(text):
    reader = Reader()
    reader.feed(text)
    reader.close()
    assert not reader.open
    return reader


def test_it_has_the_sections_and_tables_of_the_markdown(written_run):
    markdown = (written_run.folder / "report.md").read_text()
    page = read((written_run.folder / "report.html").read_text())
    without_code = re.sub(r"(?s)^```.*?^```$", "", markdown, flags=re.MULTILINE)
    assert page.texts["h2"] == re.findall(r"^## (.*)$", without_code, re.MULTILINE)
    assert page.texts["h1"] == re.findall(r"^# (.*)$", without_code, re.MULTILINE)
    lines = [line for line in without_code.splitlines() if line.startswith("| ")]
    cells = [
        re.sub(r"[`*]", "", cell.strip())
        for line in lines
        if not re.fullmatch(r"[|:\- ]+", line)
        for cell in line.strip("|").split(" | ")
    ]
    assert sorted(cells) == sorted(page.texts["th"] + page.texts["td"])


def test_it_needs_no_other_file_and_no_network(written_run):
    text = (written_run.folder / "report.html").read_text()
    page = read(text)
    figures = list((written_run.folder / "figures").iterdir())
    assert len(page.sources) == len(figures) > 0
    assert all(one.startswith("data:image/png;base64,") for one in page.sources)
    assert all(
        link.startswith("https://arxiv.org/") or "://" not in link
        for link in page.links
    )
    assert not re.search(r"<script|<link|@import|url\(", text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a < b & `c<d`", "a &lt; b &amp; <code>c&lt;d</code>"),
        ("**bold** *", "<strong>bold</strong> *"),
        ('[x](y"z)', '<a href="y&quot;z">x</a>'),
        ("`**[a](b)`", "<code>**[a](b)</code>"),
    ],
)
def test_inline_markup(text, expected):
    assert html.inline(text) == expected
