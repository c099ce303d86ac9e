"""What the documents quote exists: commands, flags, fields, configs, files."""

import re

import jax
import pytest

from mnist_jax.__main__ import VERBS
from mnist_jax.commands import config_flag, fields
from mnist_jax.config import Experiment
from tests.conftest import ROOT

PAGES = [*ROOT.glob("README*.md"), *ROOT.glob("docs/*.md"), ROOT / "results/README.md"]
LINKED = {*PAGES, *ROOT.glob("*.md"), ROOT / "native/README.md"}
FIELDS = {
    re.split("[: ]", line)[0].removeprefix("--")
    for line in fields.lines_of(Experiment, "--config")
}
# Of Slurm, gcloud, TensorBoard and absl, and an option of an example's network.
OTHERS = {"ntasks-per-node", "nodes", "worker", "command", "logdir"}
OTHERS |= {"help", "helpfull", "config.model.hidden"}


def defined(path):
    """The flags that a command defines."""
    source = path.read_text()
    names = re.findall(r'(?:DEFINE_\w+|add_argument)\(\s*"(?:--)?(\w+)"', source)
    return {*names, *(["config"] if "config_flag.define()" in source else [])}


FLAGS = {path.stem: defined(path) for path in ROOT.glob("mnist_jax/commands/*.py")}
ANY = set().union(*FLAGS.values(), *map(defined, ROOT.glob("benchmarks/*.py")))


def quoted(text, known):
    """The flags in a text, but those of JAX and XLA, without the "no" of --noFLAG."""
    found = re.findall(r"(?<![\w-])--([a-zA-Z_][\w-]*(?:\.\w+|\[\d+\])*)", text)
    found = {re.sub(r"\d+", "0", name) for name in found} - OTHERS
    ours = {
        name for name in found if not hasattr(jax.config, name) and "xla_" not in name
    }
    return {name if name in known else name.removeprefix("no") for name in ours}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_what_a_document_quotes_exists(page):
    text = page.read_text()
    assert quoted(text, ANY) <= ANY | FIELDS
    for verb, line in re.findall(r"mnist-jax ([a-z]+)([^`\n]*)", text):
        assert verb in VERBS
        assert quoted(line, FLAGS[verb]) <= FLAGS[verb] | FIELDS
    for config in set(re.findall(r"configs/\w+\.py(?::[\w=,]*\w)?", text)):
        config_flag.load(f"{ROOT}/{config}")
    for config in set(
        re.findall(r"--config=([a-z]\w*(?::[\w=,]*\w)?)(?![\w./])", text)
    ):
        config_flag.load(config)
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.M))
    assert set(re.findall(r"`make ([\w-]+)", text)) <= targets
    paths = re.findall(r"\b(?:tests|mnist_jax|benchmarks)/[\w/]+\.[a-z]+\b", text)
    assert [path for path in paths if not (ROOT / path).exists()] == []


def headings(page):
    """The anchors that GitHub and mkdocs.yml give the headings of a page."""
    text = re.sub("^```.*?^```", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)
    titles = re.findall("^#+ (.+)", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", x.lower()).replace(" ", "-") for x in titles}


@pytest.mark.parametrize("page", sorted(LINKED), ids=lambda page: page.name)
def test_links_lead_to_files_and_headings_that_exist(page):
    text = page.read_text()
    for path, anchor in re.findall(r"\]\((?!\w+:)([^)#\s]*)#?([^)\s]*)\)", text):
        target = page.parent / path if path else page
        assert target.exists(), path
        assert not anchor or anchor in headings(target), (path, anchor)


def test_the_site_has_every_page():
    nav = re.findall(
        r": ([\w./]+\.md)$", (ROOT / "mkdocs.yml").read_text(), re.MULTILINE
    )
    pages = {page.name for page in ROOT.glob("docs/*.md")}
    assert pages <= {*nav} and len(nav) == len({*nav})
