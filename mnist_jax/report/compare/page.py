"""A comparison as a page: comparison.md with its pictures, comparison.html with all."""

from pathlib import Path

from mnist_jax import files
from mnist_jax.errors import UserError
from mnist_jax.report import load_figures, render
from mnist_jax.report.compare import answers, findings, tables
from mnist_jax.report.compare.groups import Comparison
from mnist_jax.runs.folder import RunFolder

NAME = "comparison"


def write(found: Comparison, folder: Path, reference: str | None = None) -> list[str]:
    """Write the page into a folder, which is made if it is not there.

    Returns:
        The names of the two files of text.

    Raises:
        UserError: a run's file is damaged; the message names it.
        OSError: a file cannot be written.
    """
    save = load_figures().save
    # matplotlib is imported by now, without its remarks.
    from mnist_jax.report.compare import figures

    groups = found.groups
    both, notes = answers.read(found)
    drawn = {"accuracy": figures.accuracy(groups), "cost": figures.cost(groups)}
    if epochs := _validation(found):
        drawn["curves"] = figures.curves(groups, epochs)
    if both:
        try:
            drawn["mistakes"] = figures.mistakes(both, answers.images(both))
        except UserError as error:
            notes.append(f"The images are not drawn: {error}")
    for name, figure in drawn.items():
        save(figure, folder / "figures" / f"{name}.png")
    text = render.markdown(
        NAME,
        results=tables.results(found),
        explanation=tables.explanation(found),
        findings=findings.table(groups, reference),
        about_findings=findings.EXPLANATION,
        figures=drawn,
        summary=answers.summary(both) if both else "",
        mcnemar=answers.mcnemar(both) if both else None,
        notes=notes,
    )
    files.write_text(folder / f"{NAME}.md", text)
    page = render.html(text, "Comparison", folder / "figures")
    files.write_text(folder / f"{NAME}.html", page)
    return [f"{NAME}.md", f"{NAME}.html"]


def _validation(found: Comparison) -> dict[str, dict[int, float]]:
    """Return the validation accuracy by epoch of each group that has metrics.jsonl."""
    curves = {}
    for group in found.groups:
        for run in group.runs:
            if RunFolder(run.folder).metrics.exists():
                curves[group.key] = {
                    line["epoch"]: line["accuracy"]
                    for line in run.epochs
                    if line["split"] == "val"
                }
                break
    return {key: curve for key, curve in curves.items() if curve}
