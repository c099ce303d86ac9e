"""The figures and the page of a run, made from its folder; nothing here trains.

Importing this package is cheap: matplotlib is loaded when the first figure is drawn.

Run folders and figures/ are created if they do not exist. `run` and `data` are the
names of the run and of the data set, for titles; `classes` are the names of the
classes. Images are uint8 in 0..255; with a single channel, 255 is ink.
"""

import logging
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from jaxtyping import UInt8

from mnist_jax.errors import UserError
from mnist_jax.files import write_text
from mnist_jax.report.record import Record, read
from mnist_jax.runs import predictions
from mnist_jax.runs.folder import RunFolder
from mnist_jax.runs.predictions import Predictions

__all__ = ["load_figures", "write", "write_augmented", "write_samples"]

IMAGES_MAPPED = 500
"""Images on the map of features at most: VGG16 computes some 50 a second on a CPU."""


def write(
    run_folder: Path,
    test_images: UInt8[np.ndarray, "n h w c"],
    defaults: dict[str, Any],
) -> None:
    """Write the figures of a finished run, report.html and report.md into its folder.

    Figures of what a network lacks, such as convolutions, are left out.

    Args:
        run_folder: holds config.json, environment.json, metrics.jsonl, predictions.npz,
            results.json and summary.txt. Without weights.safetensors, the figures of
            what the network computes inside are left out.
        test_images: the images of predictions.npz, in the same order.
        defaults: the default config, in the layout of config.json.

    Raises:
        UserError: a file is missing or damaged, or the images are not those of
            predictions.npz; the message names the file.
        OSError: a file cannot be written.
    """
    from mnist_jax.report import page, render

    record = read(run_folder, complete=True)
    found = _read_predictions(record, test_images)
    figures = load_figures()
    drawn, calibration = _draw(record, found, test_images)
    folder = RunFolder(run_folder)
    for name, figure in drawn.items():
        figures.save(figure, folder.figures / f"{name}.png")
    # Those of the data were drawn before training.
    names = ("samples", "augmented")
    before = [name for name in names if (folder.figures / f"{name}.png").exists()]
    text = page.build(record, [*drawn, *before], defaults, calibration)
    whole = render.html(text, page.title(record), folder.figures)
    write_text(run_folder / "report.html", whole)
    # report.md comes last: it marks a folder whose report is complete.
    write_text(folder.report, text)


def _read_predictions(record: Record, images: np.ndarray) -> Predictions:
    """Return predictions.npz, or raise UserError if it is of other images."""
    from mnist_jax import data

    path = RunFolder(record.folder).predictions
    found = predictions.read(path)
    classes, size = found.logits["last"].shape[1], len(record.classes)
    if len(images) != len(found.labels):
        reason = f"is about {len(found.labels)} images, but the data has {len(images)}"
    # Which earlier versions did not write.
    elif found.images_sha256 and found.images_sha256 != data.images_sha256(images):
        reason = "is about other images than the data has: their checksums differ"
    elif classes != size:
        reason = f"has logits of {classes} classes, but results.json names {size}"
    else:
        return found
    raise UserError(f"{path} {reason}. Restore the data and the files of the run.")


def _draw(
    record: Record, found: Predictions, images: np.ndarray
) -> tuple[dict[str, Any], dict[str, Any] | None]:
    """Return the figures by name, and the result of `calibration.assess`."""
    from mnist_jax.evaluation import calibration
    from mnist_jax.report import figures
    from mnist_jax.report.curves import curves
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
    }
    calibrated = None
    if val := found.val:  # which earlier versions did not write
        from mnist_jax.report.evaluated.figures import reliability

        held = (val.logits[weights], val.labels) if kind == "test" else None
        calibrated = calibration.assess(logits, labels, held)
        drawn["reliability"] = reliability([{"name": run, "calibration": calibrated}])
    if RunFolder(record.folder).weights.exists():
        drawn |= _draw_network(record.folder, images, labels, logits, about)
    return {name: figure for name, figure in drawn.items() if figure}, calibrated


def _draw_network(
    folder: Path, images: np.ndarray, labels: np.ndarray, logits: np.ndarray, about: Any
) -> dict[str, Any]:
    """Draw what the network of weights.safetensors computes inside, by figure name."""
    # Imported late: they load JAX and matplotlib.
    from mnist_jax.evaluation import most_confident_mistakes
    from mnist_jax.report import network, network_figures
    from mnist_jax.runs import load

    loaded = load.load(folder)
    some = slice(IMAGES_MAPPED)
    inside = network.look_inside(loaded, images[some])
    mistakes = most_confident_mistakes(logits, labels).indices
    index = int(mistakes[0]) if len(mistakes) else 0
    label = int(labels[index])
    # The prediction, and the true class or, if that was predicted, the runner-up.
    first, *others = (int(place) for place in logits[index].argsort()[::-1])
    pair = [first, *([label] if label != first else others[:1])]
    found = network.integrated_gradients(loaded, images[index], pair)
    drawn = {
        "saliency": network_figures.saliency(images[index], found, index, label, about)
    }
    if inside.kernels is not None:
        drawn["kernels"] = network_figures.kernels(inside.kernels, about)
    if inside.feature_maps:
        drawn["feature_maps"] = network_figures.feature_maps(inside.feature_maps, about)
    if inside.features is not None:
        wrong = (logits.argmax(axis=1) != labels)[some]
        drawn["feature_space"] = network_figures.feature_space(
            inside.features, labels[some], wrong, about
        )
    return drawn


def write_samples(
    folder: Path, *arrays: np.ndarray, run: str, data: str, classes: Sequence[str] = ()
) -> None:
    """Write figures/samples.png; see `figures.samples`."""
    _write_training_images("samples", folder, arrays, run, data, classes)


def write_augmented(
    folder: Path, *arrays: np.ndarray, run: str, data: str, classes: Sequence[str] = ()
) -> None:
    """Write figures/augmented.png; see `figures.augmented`."""
    _write_training_images("augmented", folder, arrays, run, data, classes)


def _write_training_images(
    name: str, folder: Path, arrays: Sequence[np.ndarray], run: str, data: str, classes
) -> None:
    figures = load_figures()
    about = figures.About(run, f"training images of {data}", classes)
    figure = getattr(figures, name)(*arrays, about)
    figures.save(figure, folder / "figures" / f"{name}.png")


def load_figures() -> ModuleType:
    """Import the drawing code, silencing matplotlib's messages on its font cache."""
    logger = logging.getLogger("matplotlib")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        from mnist_jax.report import figures
    finally:
        logger.setLevel(level)
    return figures
