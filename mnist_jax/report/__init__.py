"""The figures and the page of a run, made from its folder; nothing here trains.

Importing this package is cheap: Matplotlib is loaded when the first figure is drawn.
"""

from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8

from mnist_jax.errors import UserError
from mnist_jax.files import write_text
from mnist_jax.report.record import Record, read
from mnist_jax.runs import predictions
from mnist_jax.runs.folder import RunFolder
from mnist_jax.runs.predictions import Predictions


def write(
    run_folder: Path,
    test_images: UInt8[np.ndarray, "n h w c"],
    defaults: dict[str, Any],
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

    record, folder = read(run_folder, complete=True), RunFolder(run_folder)
    found = _read_predictions(record, test_images)
    weights, held = record.results["test_weights"], None
    if found.val and record.tested_on == "test":
        held = found.val.logits[weights], found.val.labels
    calibrated = calibration.assess(found.logits[weights], found.labels, held)
    for name, figure in _draw(record, found, test_images, calibrated).items():
        figures.save(figure, folder.figures / f"{name}.png")
    # Those of the data were drawn before training.
    drawn = [path.stem for path in folder.figures.glob("*.png")]
    text = page.build(record, drawn, defaults, calibrated)
    whole = render.html(text, page.title(record), folder.figures)
    write_text(run_folder / "report.html", whole)
    # report.md comes last: it marks a folder whose report is complete.
    write_text(folder.report, text)


def _read_predictions(record: Record, images: np.ndarray) -> Predictions:
    """Return predictions.npz, or raise UserError if it is of other images."""
    from mnist_jax import data

    path = RunFolder(record.folder).predictions
    found = predictions.read(path)
    same = len(images) == len(found.labels)
    if found.images_sha256:  # which earlier versions did not write
        same = found.images_sha256 == data.images_sha256(images)
    if not same:
        raise UserError(
            f"{path} is about other images than the data has. Restore the data and the "
            "files of the run."
        )
    return found


def _draw(
    record: Record, found: Predictions, images: np.ndarray, calibrated: dict[str, Any]
) -> dict[str, Any]:
    """Return the figures by name."""
    from mnist_jax.report import figures
    from mnist_jax.report.curves import curves
    from mnist_jax.report.evaluated.figures import reliability
    from mnist_jax.report.style import About

    results, labels = record.results, found.labels
    weights, epoch = results["test_weights"], results["best_epoch"]
    logits = found.logits[weights]
    confusion = np.array(results["test"][weights]["confusion"])
    kind = "validation" if record.tested_on == "val" else "test"
    run = f"{record.name}, seed {record.seed}"
    about = About(run, f"{kind} images of {results['data']}", record.classes)
    data = about._replace(subject=results["data"])
    drawn = {
        "curves": curves(record.epochs, epoch, results["best_monitor"], data),
        "confusion_matrix": figures.confusion_matrix(confusion, about),
        "mistakes": figures.mistakes(images, labels, logits, about),
        "reliability": reliability([{"name": run, "calibration": calibrated}]),
    }
    if RunFolder(record.folder).weights.exists():
        from mnist_jax.report import network_figures  # which loads JAX

        drawn |= network_figures.draw(record.folder, images, labels, logits, about)
    return {name: figure for name, figure in drawn.items() if figure}
