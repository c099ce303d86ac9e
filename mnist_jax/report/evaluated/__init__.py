"""The results of `mnist-jax evaluate`: tables, pictures and a page."""

from pathlib import Path
from typing import Any, NamedTuple

from mnist_jax import files
from mnist_jax.data import Split
from mnist_jax.report import load_figures

FOLDER, FILE = "evaluation", "evaluation.json"
"""The path of a run's own evaluation in its folder."""


class Evaluation(NamedTuple):
    """The contents of evaluation.json."""

    data: str
    """The images, such as "test images of mnist"."""
    runs: list[dict[str, Any]]
    """For each network "name", "parameters_sha256", "notes" about it, "evaluation" and
    "calibration" of `mnist_jax.evaluation` and, where they were measured, "augmented",
    "robustness" and "without_doubtful_labels"."""
    notes: list[str]
    """Remarks that a reader needs, a sentence each."""

    @property
    def remarks(self) -> list[str]:
        """The notes on each network, then on all."""
        return [note for run in self.runs for note in run["notes"]] + self.notes


def write(found: Evaluation, folder: Path, split: Split) -> list[str]:
    """Write evaluation.json, evaluation.md and their pictures into a folder.

    Args:
        found: the contents.
        folder: made if it is not there.
        split: the images that were evaluated, to draw the damage of the first.

    Returns:
        The names of the files.

    Raises:
        OSError: a file cannot be written.
    """
    save = load_figures().save
    # matplotlib is imported by now, without its remarks.
    from mnist_jax.report import render
    from mnist_jax.report.evaluated import figures, tables

    drawn = {"reliability": figures.reliability(found.runs)}
    if "robustness" in found.runs[0]:
        drawn["robustness"] = figures.robustness(found.runs)
        drawn["corruptions"] = figures.corruptions(split.images)
    for name, figure in drawn.items():
        save(figure, folder / f"{name}.png")
    text = render.markdown("evaluation", found=found, tables=tables, figures=drawn)
    files.write_text(folder / "evaluation.md", text)
    files.write_json(folder / FILE, found._asdict())
    return ["evaluation.md", *(f"{name}.png" for name in drawn), FILE]
