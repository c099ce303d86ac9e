"""A hook of mkdocs: pages from outside docs/, and the reference of the Python API."""

import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

_ROOT = Path(__file__).resolve().parents[1]
_REFERENCE = """# Reference

What the examples of [the Python API](api.md) use.

::: mnist_jax
::: mnist_jax.runs.trained.Trained
::: mnist_jax.runs.load.Network
::: mnist_jax.photos.Reading
::: mnist_jax.photos.Digit
::: mnist_jax.experiment
::: mnist_jax.config.Experiment
::: mnist_jax.data.load
::: mnist_jax.data.Dataset
::: mnist_jax.data.Split
::: mnist_jax.data.Task
::: mnist_jax.data.augment.create
::: mnist_jax.models.create
::: mnist_jax.models.Model
::: mnist_jax.models.Outputs
"""


def on_files(files: Files, *, config: Any) -> Files:
    """Add the pages, and the files outside docs/ that pages link to."""
    files.append(File.generated(config, "reference.md", content=_REFERENCE))
    others = {
        *_ROOT.glob("*.md"),
        _ROOT / "native/README.md",
        _ROOT / "results/README.md",
    }
    for page in [*others, *_ROOT.glob("docs/*.md")]:
        for link in re.findall(r"\]\((?!\w+:)([^)#\s]+)", page.read_text()):
            path = (page.parent / link).resolve()
            if path.is_file() and path.parent != _ROOT / "docs":
                others.add(path)
    for path in others:
        name = path.relative_to(_ROOT).as_posix()
        name = "index.md" if name == "README.md" else name
        files.append(File.generated(config, name, abs_src_path=str(path)))
    return files


def on_page_markdown(markdown: str, *, page: Any, **_: Any) -> str:
    """Adapt links: here docs/ is the root, and README.md is index.md."""
    if "/" not in page.file.src_uri:
        markdown = markdown.replace("](../", "](")
    markdown = re.sub(r"\]\(((?:\.\./)*)docs/", r"](\1", markdown)
    return re.sub(r"\]\(((?:\.\./)?)README\.md", r"](\1index.md", markdown)
