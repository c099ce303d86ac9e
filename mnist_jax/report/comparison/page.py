"""A comparison as a page: comparison.md with its pictures, comparison.html with all."""

import base64
import html
import json
from collections.abc import Sequence
from pathlib import Path

from mnist_jax import files
from mnist_jax.errors import UserError
from mnist_jax.report import load_figures, tables
from mnist_jax.report.comparison import answers, separation, text
from mnist_jax.report.comparison.answers import Answers
from mnist_jax.report.comparison.groups import Comparison, Group
from mnist_jax.runs.folder import RunFolder

NAME = "comparison"
_STYLE = """
body { font: 15px/1.5 sans-serif; color: #1f2328; max-width: 60em; margin: 2em auto; }
table { border-collapse: collapse; font-size: 13px; display: block; overflow-x: auto; }
th, td { border: 1px solid #d8dee4; padding: 3px 8px; }
img { max-width: 100%; }
"""


def write(comparison: Comparison, folder: Path) -> list[str]:
    """Write the page into a folder, which is made if it is not there.

    Returns:
        The names of the two files of text.

    Raises:
        UserError: a run's file is damaged; the message names it.
        OSError: a file cannot be written.
    """
    save = load_figures().save
    # matplotlib is imported by now, without its remarks.
    from mnist_jax.report.comparison import figures

    groups = comparison.groups
    found, notes = answers.read(comparison)
    drawn = {"accuracy": figures.accuracy(groups), "cost": figures.cost(groups)}
    if epochs := _validation(groups):
        drawn["curves"] = figures.curves(groups, epochs)
    if found:
        try:
            drawn["mistakes"] = figures.mistakes(found, answers.images(found))
        except UserError as error:
            notes.append(f"The images are not drawn: {error}")
    for name, figure in drawn.items():
        save(figure, folder / f"{name}.png")
    content = _render(comparison, found, notes, list(drawn))
    files.write_text(folder / f"{NAME}.md", content)
    pictures = {name: (folder / f"{name}.png").read_bytes() for name in drawn}
    files.write_text(folder / f"{NAME}.html", _html(content, pictures))
    return [f"{NAME}.md", f"{NAME}.html"]


def _render(
    comparison: Comparison,
    found: Answers | None,
    notes: Sequence[str],
    figures: Sequence[str],
) -> str:
    """Return the page in Markdown."""
    sections = ["# Comparison", text.results(comparison)]
    if lines := separation.sentences(comparison.groups):
        sections += [
            "## Which differences the seeds bear out",
            "\n".join(f"- {line}" for line in lines),
        ]
    sections += ["## Accuracy and its cost", _image("accuracy"), _image("cost")]
    sections.append("## Learning curves")
    if "curves" in figures:
        sections += [
            "Each experiment's lowest seed that has its metrics.jsonl.",
            _image("curves"),
        ]
    else:
        sections.append("No run has its metrics.jsonl.")
    sections.append("## Who errs where")
    if found:
        sections.append(_errors(found))
    else:
        sections.append("That needs predictions.npz of two experiments' runs.")
    if "mistakes" in figures:
        sections.append(_image("mistakes"))
    sections += notes
    if found:
        header, rows = answers.mcnemar_rows(found)
        align = ["left"] + ["right"] * (len(header) - 1)
        sections += [
            "## McNemar's test",
            "Two trained networks on the same images: how many only the row's network "
            "gets right, how many only the column's, and the exact test's p-value, "
            "corrected for all pairs by Holm's method. It is about these two networks, "
            "not about other seeds of theirs.",
            tables.markdown_table(header, rows, align),
        ]
    return "\n\n".join(sections) + "\n"


def _errors(found: Answers) -> str:
    """Return how many images are wrong, by how many networks."""
    wrong_by = (~found.right).sum(axis=0)
    alone = ", ".join(
        f"{len(found.wrong_by_only(place))} by {name}"
        for place, name in enumerate(found.names)
    )
    return (
        f"Of {len(found.labels):,} images, {int((wrong_by > 0).sum())} are wrong by at "
        f"least one of {len(found.names)} networks, {int((wrong_by > 1).sum())} by "
        f"several and {len(found.wrong_by_all())} by all. Wrong by one alone: {alone}."
    )


def _validation(groups: Sequence[Group]) -> dict[int, dict[int, float]]:
    """Return, by an experiment's place, the validation accuracy of its epochs."""
    found = {}
    for place, group in enumerate(groups):
        paths = (RunFolder(run.folder).metrics for run in group.runs)
        path = next((path for path in paths if path.exists()), None)
        if path is None:
            continue
        try:
            lines = [json.loads(line) for line in path.read_text().splitlines()]
            by_epoch = {
                line["epoch"]: float(line["accuracy"])
                for line in lines
                if line["split"] == "val"
            }
        except (LookupError, TypeError, ValueError) as error:
            raise UserError(
                f"{path} is damaged: {error!r}. Restore it, or leave its folder out."
            ) from error
        if by_epoch:
            found[place] = dict(sorted(by_epoch.items()))
    return found


def _image(name: str) -> str:
    return f"![{name}]({name}.png)"


def _html(markdown: str, pictures: dict[str, bytes]) -> str:
    """Return the page as HTML that needs no other file."""
    from markdown_it import MarkdownIt

    for name, content in pictures.items():
        encoded = base64.b64encode(content).decode()
        markdown = markdown.replace(
            _image(name), f"![{name}](data:image/png;base64,{encoded})"
        )
    renderer = MarkdownIt("commonmark", {"html": False}).enable("table")
    title = html.escape(markdown.splitlines()[0].lstrip("# "))
    return (
        f'<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f"<title>{title}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n"
        f"{renderer.render(markdown)}</body>\n</html>\n"
    )
