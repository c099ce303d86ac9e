"""A comparison as a page: comparison.md with its pictures, comparison.html with all."""

import json
from collections.abc import Sequence
from pathlib import Path

from mnist_jax import files
from mnist_jax.errors import UserError
from mnist_jax.report import html, load_figures, markdown
from mnist_jax.report.comparison import answers, separation, text
from mnist_jax.report.comparison.answers import Answers
from mnist_jax.report.comparison.groups import Comparison, Group
from mnist_jax.report.sections import Block, Page, Picture, Section, Table, Text
from mnist_jax.runs.folder import RunFolder

NAME = "comparison"


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
        save(figure, folder / "figures" / f"{name}.png")
    page = _page(comparison, found, notes, list(drawn))
    files.write_text(folder / f"{NAME}.md", markdown.render(page))
    files.write_text(folder / f"{NAME}.html", html.render(page, folder / "figures"))
    return [f"{NAME}.md", f"{NAME}.html"]


def _page(
    comparison: Comparison,
    found: Answers | None,
    notes: Sequence[str],
    figures: Sequence[str],
) -> Page:
    explanations = map(Text, text.explanations(comparison))
    introduction = [text.results_table(comparison), *explanations]
    sections = []
    if lines := separation.sentences(comparison.groups):
        title = "Which differences the seeds bear out"
        sections.append(Section(title, [*map(Text, lines)]))
    cost = [Picture("accuracy", "Accuracy"), Picture("cost", "Accuracy and its cost")]
    sections.append(Section("Accuracy and its cost", cost))
    curves: list[Block] = [Text("No run has its metrics.jsonl.")]
    if "curves" in figures:
        shown = "Each experiment's lowest seed that has its metrics.jsonl."
        curves = [Text(shown), Picture("curves", "Learning curves")]
    sections.append(Section("Learning curves", curves))
    needs = "That needs predictions.npz of two experiments' runs."
    errors: list[Block] = [Text(_errors(found) if found else needs)]
    if "mistakes" in figures:
        errors.append(Picture("mistakes", "Who errs where"))
    errors += map(Text, notes)
    sections.append(Section("Who errs where", errors))
    if found:
        header, rows = answers.mcnemar_rows(found)
        meaning = (
            "Two trained networks on the same images: how many only the row's network "
            "gets right, how many only the column's, and the exact test's p-value, "
            "corrected for all pairs by Holm's method. It is about these two networks, "
            "not about other seeds of theirs."
        )
        table = Table(header, rows, ["left"] + ["right"] * (len(header) - 1))
        sections.append(Section("McNemar's test", [Text(meaning), table]))
    return Page("Comparison", introduction, sections)


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
