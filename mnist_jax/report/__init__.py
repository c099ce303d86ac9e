"""A run folder's pictures and its page: reads what training left, never trains.

Importing this package is cheap: matplotlib is loaded when the first figure is drawn.
"""

import logging
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from jaxtyping import Float, Integer, UInt8

from mnist_jax.errors import UserError
from mnist_jax.files import write_text
from mnist_jax.report import page
from mnist_jax.report.inputs import read_predictions, read_run

__all__ = ["write", "write_augmented", "write_samples"]


def write(
    run_folder: Path,
    test_images: UInt8[np.ndarray, "n h w 1"],
    defaults: dict[str, Any],
) -> None:
    """Write the figures of a finished run and report.md into its folder.

    Args:
        run_folder: Holds config.json, environment.json, metrics.jsonl, predictions.npz,
            results.json and summary.txt.
        test_images: uint8 [N, H, W, 1] in 0..255: the images that predictions.npz is
            about, in the same order.
        defaults: The config that has every field's default, as config.json has it.

    Raises:
        UserError: A file is missing or damaged, or the images are not those of
            predictions.npz; the message names the file.
        OSError: A file cannot be written.
    """
    run, predictions = read_run(run_folder), read_predictions(run_folder)
    if len(test_images) != len(predictions.labels):
        raise UserError(
            f"{run_folder / 'predictions.npz'} is about {len(predictions.labels)} "
            f"images, but the data has {len(test_images)}: it is of another data set"
        )
    counting = run.results["test_weights"]
    confusion = np.array(run.results["test"][counting]["confusion"])
    name = page.run_name(run.results["config"], run.results["seed"])
    data = run.results["data"]
    kind = "validation" if page.tested_on(run.results) == "val" else "test"
    about: dict[str, str] = {"run": name, "subject": f"{kind} images of {data}"}
    figures = load_figures()
    drawn = {
        "curves": figures.curves(
            run.epochs,
            best_epoch=run.results["best_epoch"],
            monitor=run.results["best_monitor"],
            run=name,
            subject=data,
        ),
        "confusion_matrix": figures.confusion_matrix(confusion, **about),
        "confusion_matrix_normalized": figures.confusion_matrix(
            confusion, **about, normalized=True
        ),
        "mistakes": figures.mistakes(
            test_images,
            predictions.labels,
            predictions.logits[counting],
            **about,
        ),
    }
    for name, figure in drawn.items():
        figures.save(figure, _figure_path(run_folder, name))
    existing = [
        name for name in page.FIGURES if _figure_path(run_folder, name).exists()
    ]
    write_text(run_folder / "report.md", page.render(run, existing, defaults))


def write_samples(
    run_folder: Path,
    images: UInt8[np.ndarray, "n h w 1"],
    labels: Integer[np.ndarray, " n"],
    *,
    run: str,
    data: str,
) -> None:
    """Write figures/samples.png: the first training images of every class.

    Args:
        run_folder: Created if it does not exist.
        images: uint8 [N, H, W, 1] in 0..255.
        labels: integers [N].
        run: The run's name, for the title.
        data: The data set's.

    Raises:
        OSError: The file cannot be written.
    """
    figures = load_figures()
    subject = f"training images of {data}"
    figure = figures.samples(images, labels, run=run, subject=subject)
    figures.save(figure, _figure_path(run_folder, "samples"))


def write_augmented(
    run_folder: Path,
    images: UInt8[np.ndarray, "rows h w c"],
    augmented: UInt8[np.ndarray, "rows columns h w c"]
    | Float[np.ndarray, "rows columns h w c"],
    labels: Integer[np.ndarray, " rows"] | None = None,
    *,
    run: str,
    data: str,
) -> None:
    """Write figures/augmented.png: training images, and each of them augmented.

    Args:
        run_folder: Created if it does not exist.
        images: uint8 [rows, H, W, C] in 0..255, as they are stored. Only the first
            channel is shown.
        augmented: Several versions of each image: [rows, columns, H, W, C], uint8 in
            0..255 or floating-point in 0..1.
        labels: integers [rows], shown on the left if they are given.
        run: The run's name, for the title.
        data: The data set's.

    Raises:
        OSError: The file cannot be written.
    """
    figures = load_figures()
    subject = f"training images of {data}"
    figure = figures.augmented(images, augmented, labels, run=run, subject=subject)
    figures.save(figure, _figure_path(run_folder, "augmented"))


def _figure_path(run_folder: Path, name: str) -> Path:
    return run_folder / "figures" / f"{name}.png"


def load_figures() -> ModuleType:
    """Import the drawing code, without matplotlib's remarks on its font cache."""
    logger = logging.getLogger("matplotlib")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        from mnist_jax.report import figures
    finally:
        logger.setLevel(level)
    return figures
