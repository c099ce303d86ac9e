"""What `mnist-jax evaluate` found, for people: tables, pictures and a page."""

from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from mnist_jax import files
from mnist_jax.report import load_figures, markdown
from mnist_jax.report.evaluated import page
from mnist_jax.report.evaluated.page import Evaluation

__all__ = ["FILE", "FOLDER", "Evaluation", "page", "write"]

FOLDER, FILE = "evaluation", "evaluation.json"
"""The path of a run's own evaluation in its folder."""


def write(
    found: Evaluation, folder: Path, images: UInt8[np.ndarray, "n 28 28 1"]
) -> list[str]:
    """Write evaluation.json, evaluation.md and their pictures into a folder.

    Args:
        found: what is to be told.
        folder: made if it is not there.
        images: the first of those that were evaluated, to draw the damage of.

    Returns:
        The names of the files.

    Raises:
        OSError: a file cannot be written.
    """
    save = load_figures().save
    # matplotlib is imported by now, without its remarks.
    from mnist_jax.report.evaluated import figures

    drawn = {"reliability": figures.reliability(found.runs)}
    if any("robustness" in run for run in found.runs):
        drawn["robustness"] = figures.robustness(found.runs)
        drawn["corruptions"] = figures.corruptions(images)
    for name, figure in drawn.items():
        save(figure, folder / f"{name}.png")
    content = page.build(found, list(drawn))
    files.write_text(folder / "evaluation.md", markdown.render(content, figures=""))
    files.write_json(folder / FILE, found._asdict())
    return ["evaluation.md", *(f"{name}.png" for name in drawn), FILE]
