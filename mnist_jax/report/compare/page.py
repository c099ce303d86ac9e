"""A comparison as a page: comparison.md with its pictures, comparison.html with all."""

import itertools
from pathlib import Path

from mnist_jax import files
from mnist_jax.report import render
from mnist_jax.report.compare import answers, figures, findings, tables
from mnist_jax.report.compare.groups import Comparison, series
from mnist_jax.report.figures import save


def write(found: Comparison, folder: Path) -> None:
    """Write comparison.md and comparison.html into a folder, which may be new.

    Raises:
        UserError: a run's file is damaged; the message names it.
        OSError: a file cannot be written.
    """
    groups = found.groups
    read, notes = answers.read(found)
    drawn = {"accuracy": figures.accuracy(groups)}
    found_series = sorted(series(groups), key=lambda each: each.field)
    for field, same in itertools.groupby(found_series, key=lambda each: each.field):
        drawn[f"by_{field.replace('.', '_')}"] = figures.varied([*same])
    for name, figure in drawn.items():
        save(figure, folder / "figures" / f"{name}.png")
    text = render.markdown(
        "comparison",
        results=tables.results(found),
        explanation=[tables.EXPLANATION, *found.notes],
        findings=findings.table(groups),
        about_findings=findings.EXPLANATION,
        figures=drawn,
        mcnemar=answers.mcnemar(read),
        notes=notes,
    )
    files.write_text(folder / "comparison.md", text)
    page = render.html(text, "Comparison", folder / "figures")
    files.write_text(folder / "comparison.html", page)
