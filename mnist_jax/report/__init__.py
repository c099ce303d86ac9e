"""The figures and the page of a run, made from its folder; nothing here trains.

Importing this package is cheap: Matplotlib is loaded when the first figure is drawn.
"""

from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8

from mnist_jax import data
from mnist_jax.errors import UserError
from mnist_jax.files import write_text
from mnist_jax.report import record
from mnist_jax.report.record import Fields, Record
from mnist_jax.runs import predictions
from mnist_jax.runs.folder import RunFolder
from mnist_jax.runs.predictions import Predictions


def write(
    run_folder: Path, test_images: UInt8[np.ndarray, "n h w c"], defaults: Fields
) -> None:
    """Write the figures of a finished run, report.html and report.md into its folder.

    Figures of what a network lacks, such as convolutions, are left out, and without
    weights.safetensors all figures of its inner layers.

    Args:
        run_folder: of a run that has been tested.
        test_images: the images of predictions.npz, in the same order.
        defaults: the default config, in the layout of config.json.

    Raises:
        UserError: a file is missing or damaged, or the images are not those of
            predictions.npz; the message names the file.
        OSError: a file cannot be written.
    """
    from mnist_jax.evaluation import calibration
    from mnist_jax.report import figures, page, render

    run, folder = record.read(run_folder, complete=True), RunFolder(run_folder)
    tested, val = predictions.read(folder.predictions)
    if tested.images_sha256 != data.images_sha256(test_images):
        raise UserError(
            f"{folder.predictions} is about other images than the data has. Restore "
            "the data and the files of the run."
        )
    weights = run.results["test_weights"]
    held = (val.logits[weights], val.labels) if run.tested_on == "test" else None
    calibrated = calibration.assess(tested.logits[weights], tested.labels, held)
    for name, figure in _draw(run, tested, test_images, calibrated).items():
        figures.save(figure, folder.figures / f"{name}.png")
    # Those of the data were drawn before training.
    drawn = [path.stem for path in folder.figures.glob("*.png")]
    text = page.build(run, drawn, defaults, calibrated)
    whole = render.html(text, page.title(run), folder.figures)
    write_text(run_folder / "report.html", whole)
    # report.md comes last: it marks a folder whose report is complete.
    write_text(folder.report, text)


def _draw(
    run: Record, tested: Predictions, images: np.ndarray, calibrated: dict[str, Any]
) -> dict[str, Any]:
    """Return the figures by name."""
    from mnist_jax.report import figures
    from mnist_jax.report.curves import curves
    from mnist_jax.report.evaluated.figures import reliability
    from mnist_jax.report.style import About

    results, labels = run.results, tested.labels
    weights, epoch = results["test_weights"], results["best_epoch"]
    logits = tested.logits[weights]
    confusion = np.array(results["test"][weights]["confusion"])
    kind = "validation" if run.tested_on == "val" else "test"
    name = f"{run.name}, seed {run.seed}"
    about = About(name, f"{kind} images of {results['data']}", run.classes)
    subject = about._replace(subject=results["data"])
    drawn = {
        "curves": curves(run.epochs, epoch, results["best_monitor"], subject),
        "confusion_matrix": figures.confusion_matrix(confusion, about),
        "mistakes": figures.mistakes(images, labels, logits, about),
        "reliability": reliability([{"name": name, "calibration": calibrated}]),
    }
    if RunFolder(run.folder).weights.exists():
        from mnist_jax.report import network_figures  # which loads JAX

        drawn |= network_figures.draw(run.folder, images, labels, logits, about)
    return {name: figure for name, figure in drawn.items() if figure}
