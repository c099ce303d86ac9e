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
from mnist_jax.runs.folder import RunFolder

__all__ = ["load_figures", "write", "write_augmented", "write_samples"]

IMAGES_MAPPED = 500
"""Images on the map of features at most: VGG16 computes some 50 a second on a CPU."""
DIGITS = tuple("0123456789")


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
    predictions = _read_predictions(record, test_images)
    figures = load_figures()
    drawn, calibration = _draw(record, predictions, test_images)
    folder = RunFolder(run_folder)
    for name, figure in drawn.items():
        figures.save(figure, folder.figures / f"{name}.png")
    # Those of the data were drawn before training.
    before = [
        name
        for name in ("samples", "augmented")
        if (folder.figures / f"{name}.png").exists()
    ]
    text = page.build(
        record,
        [*drawn, *before],
        defaults,
        calibration,
        list_confusions=len(record.classes) > figures.MOST_NUMBERS,
    )
    write_text(
        run_folder / "report.html",
        render.html(text, page.title(record), folder.figures),
    )
    # report.md comes last: it marks a folder whose report is complete.
    write_text(folder.report, text)


def _read_predictions(record: Record, images: np.ndarray) -> Any:
    """Return predictions.npz, or raise UserError if it is of other images."""
    from mnist_jax import data
    from mnist_jax.runs import predictions

    path = RunFolder(record.folder).predictions
    found = predictions.read(path)
    if len(images) != len(found.labels):
        raise UserError(
            f"{path} is about {len(found.labels)} images, but the data has "
            f"{len(images)}: it is of another data set."
        )
    # Which earlier versions did not write.
    if found.images_sha256 and found.images_sha256 != data.images_sha256(images):
        raise UserError(
            f"{path} is about other images than the data has: their checksums differ. "
            "Restore the data that the run was tested on."
        )
    classes = found.logits["last"].shape[1]
    if classes != len(record.classes):
        raise UserError(
            f"{path} has logits of {classes} classes, but results.json names "
            f"{len(record.classes)}. Restore both from a copy."
        )
    return found


def _draw(
    record: Record, predictions: Any, images: np.ndarray
) -> tuple[dict[str, Any], dict[str, Any] | None]:
    """Return the figures by name, and the result of `calibration.assess`."""
    from mnist_jax.evaluation import calibration
    from mnist_jax.report import figures
    from mnist_jax.report.curves import curves

    results, labels = record.results, predictions.labels
    weights = results["test_weights"]
    logits = predictions.logits[weights]
    kind = "validation" if record.tested_on == "val" else "test"
    run = f"{record.name} (seed {record.seed})"
    named: dict[str, Any] = {
        "classes": record.classes,
        "run": run,
        "subject": f"{kind} images of {results['data']}",
    }
    drawn = {
        "curves": curves(
            record.epochs,
            best_epoch=results["best_epoch"],
            monitor=results["best_monitor"],
            run=run,
            subject=results["data"],
        ),
        "confusion_matrix": figures.confusion_matrix(
            np.array(results["test"][weights]["confusion"]), **named
        ),
        "mistakes": figures.mistakes(images, labels, logits, **named),
    }
    found = None
    if val := predictions.val:  # which earlier versions did not write
        from mnist_jax.report.evaluated.figures import reliability

        held = (val.logits[weights], val.labels) if kind == "test" else None
        found = calibration.assess(logits, labels, held)
        drawn["reliability"] = reliability([{"name": run, "calibration": found}])
    if RunFolder(record.folder).weights.exists():
        drawn |= _draw_network(record.folder, images, labels, logits, **named)
    return {name: figure for name, figure in drawn.items() if figure}, found


def _draw_network(
    folder: Path,
    images: np.ndarray,
    labels: np.ndarray,
    logits: np.ndarray,
    *,
    classes: Sequence[str],
    run: str,
    subject: str,
) -> dict[str, Any]:
    """Draw what the network of weights.safetensors computes inside, by figure name."""
    # Imported late: they load JAX and matplotlib.
    from mnist_jax.evaluation import most_confident_mistakes
    from mnist_jax.report import network, network_figures
    from mnist_jax.runs import load

    loaded = load.load(folder)
    named: dict[str, Any] = {"classes": classes, "run": run, "subject": subject}
    some = slice(IMAGES_MAPPED)
    inside = network.look_inside(loaded, images[some])
    mistakes = most_confident_mistakes(logits, labels).indices
    index = int(mistakes[0]) if len(mistakes) else 0
    # The prediction, and the true class or, if that was predicted, the runner-up.
    ranking = [int(label) for label in logits[index].argsort()[::-1][:2]]
    pair = [ranking[0], int(labels[index])] if len(mistakes) else ranking
    found = network.integrated_gradients(loaded, images[index], pair)
    label = int(labels[index])
    drawn = {
        "saliency": network_figures.saliency(
            images[index], found, index=index, label=label, **named
        )
    }
    if inside.kernels is not None:
        drawn["kernels"] = network_figures.kernels(inside.kernels, run=run)
    if inside.feature_maps:
        drawn["feature_maps"] = network_figures.feature_maps(
            inside.feature_maps, run=run, subject=subject
        )
    if inside.features is not None:
        wrong = (logits.argmax(axis=1) != labels)[some]
        drawn["feature_space"] = network_figures.feature_space(
            inside.features, labels[some], wrong, **named
        )
    return drawn


def write_samples(
    folder: Path,
    images: np.ndarray,
    labels: np.ndarray,
    *,
    run: str,
    data: str,
    classes: Sequence[str] = DIGITS,
) -> None:
    """Write figures/samples.png; see `figures.samples`."""
    figures = load_figures()
    subject = f"training images of {data}"
    figure = figures.samples(images, labels, classes=classes, run=run, subject=subject)
    figures.save(figure, folder / "figures" / "samples.png")


def write_augmented(
    folder: Path,
    images: np.ndarray,
    versions: np.ndarray,
    labels: np.ndarray,
    *,
    run: str,
    data: str,
    classes: Sequence[str] = DIGITS,
) -> None:
    """Write figures/augmented.png; see `figures.augmented`."""
    figures = load_figures()
    figure = figures.augmented(
        images,
        versions,
        labels,
        classes=classes,
        run=run,
        subject=f"training images of {data}",
    )
    figures.save(figure, folder / "figures" / "augmented.png")


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
