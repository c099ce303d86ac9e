"""The figures and the page of a run, made from its folder; nothing here trains.

Importing this package is cheap: matplotlib is loaded when the first figure is drawn.

Run folders and figures/ are created if they do not exist. `run` and `data` are the
names of the run and of the data set, for titles. Images are uint8 in 0..255; 255 is
ink.
"""

import logging
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from jaxtyping import Float, Integer, UInt8

from mnist_jax.errors import UserError
from mnist_jax.evaluation import calibration, most_confident_mistakes
from mnist_jax.files import write_text
from mnist_jax.report import html, markdown, page
from mnist_jax.report.inputs import Predictions, read_predictions, read_run
from mnist_jax.runs.folder import RunFolder

__all__ = ["load_figures", "write", "write_augmented", "write_samples"]

IMAGES_MAPPED = 500
"""Images on the map of features at most: VGG16 computes some 50 a second on a CPU."""


def write(
    run_folder: Path,
    test_images: UInt8[np.ndarray, "n h w 1"],
    defaults: dict[str, Any],
) -> None:
    """Write the figures of a finished run, report.html and report.md into its folder.

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
    run, predictions = read_run(run_folder), read_predictions(run_folder)
    if len(test_images) != len(predictions.labels):
        raise UserError(
            f"{run_folder / 'predictions.npz'} is about {len(predictions.labels)} "
            f"images, but the data has {len(test_images)}: it is of another data set."
        )
    results = run.results
    weights, data = results["test_weights"], results["data"]
    confusion = np.array(results["test"][weights]["confusion"])
    kind = "validation" if page.tested_on(results) == "val" else "test"
    name = page.run_name(results["config"], results["seed"])
    named: dict[str, str] = {"run": name, "subject": f"{kind} images of {data}"}
    figures = load_figures()
    drawn = {
        "curves": figures.curves(
            run.epochs,
            best_epoch=results["best_epoch"],
            monitor=results["best_monitor"],
            run=name,
            subject=data,
        ),
        "confusion_matrix": figures.confusion_matrix(confusion, **named),
        "confusion_matrix_normalized": figures.confusion_matrix(
            confusion, **named, normalized=True
        ),
        "mistakes": figures.mistakes(
            test_images, predictions.labels, predictions.logits[weights], **named
        ),
    }
    calibrated = _calibration(predictions, weights, fit=kind == "test")
    if calibrated:
        from mnist_jax.report.evaluated.figures import reliability

        drawn["reliability"] = reliability([{"name": name, "calibration": calibrated}])
    if RunFolder(run_folder).weights.exists():
        drawn |= _draw_network(
            run_folder,
            test_images,
            predictions.labels,
            predictions.logits[weights],
            **named,
        )
    for name, figure in drawn.items():
        figures.save(figure, _figure_path(run_folder, name))
    existing = [
        name for name in page.FIGURES if _figure_path(run_folder, name).exists()
    ]
    content = page.build(run, existing, defaults, calibrated)
    # report.md comes last: it marks a folder whose report is complete.
    write_text(run_folder / "report.html", html.render(content, run_folder / "figures"))
    write_text(run_folder / "report.md", markdown.render(content))


def _calibration(
    predictions: Predictions, weights: str, *, fit: bool
) -> dict[str, Any] | None:
    """Return `calibration.assess`, or None for an old run.

    Args:
        predictions: of the run.
        weights: "last" or "best".
        fit: whether to fit a temperature on the validation images.
    """
    if predictions.val is None:
        return None
    held = predictions.val.logits[weights], predictions.val.labels
    logits = predictions.logits[weights]
    return calibration.assess(logits, predictions.labels, held if fit else None)


def _draw_network(
    run_folder: Path,
    images: UInt8[np.ndarray, "n h w 1"],
    labels: Integer[np.ndarray, " n"],
    logits: Float[np.ndarray, "n 10"],
    *,
    run: str,
    subject: str,
) -> dict[str, Any]:
    """Draw what the network of weights.safetensors computes inside, by figure name."""
    # Imported late: they load JAX and matplotlib.
    from mnist_jax.report import network, network_figures
    from mnist_jax.runs import load

    loaded = load.load(run_folder)
    some = slice(IMAGES_MAPPED)
    inside = network.look_inside(loaded, images[some])
    predicted = logits.argmax(axis=1)
    mistakes = most_confident_mistakes(logits, labels).indices
    index = int(mistakes[0]) if len(mistakes) else 0
    # The prediction, and the true digit or, if that was predicted, the runner-up.
    ranking = [int(digit) for digit in logits[index].argsort()[::-1]]
    other = int(labels[index]) if len(mistakes) else ranking[1]
    found = network.integrated_gradients(loaded, images[index], [ranking[0], other])
    return {
        "saliency": network_figures.saliency(
            images[index],
            found,
            index=index,
            label=int(labels[index]),
            run=run,
            subject=subject,
        ),
        "kernels": network_figures.kernels(inside.kernels, run=run),
        "feature_maps": network_figures.feature_maps(
            inside.feature_maps, run=run, subject=subject
        ),
        "feature_space": network_figures.feature_space(
            inside.features,
            labels[some],
            (predicted != labels)[some],
            run=run,
            subject=subject,
        ),
    }


def write_samples(folder: Path, *arrays: np.ndarray, run: str, data: str) -> None:
    """Write figures/samples.png; see `figures.samples`."""
    _write_training_images(folder, "samples", *arrays, run=run, data=data)


def write_augmented(folder: Path, *arrays: np.ndarray, run: str, data: str) -> None:
    """Write figures/augmented.png; see `figures.augmented`."""
    _write_training_images(folder, "augmented", *arrays, run=run, data=data)


def _write_training_images(
    folder: Path, name: str, *arrays: np.ndarray, run: str, data: str
) -> None:
    figures = load_figures()
    draw = getattr(figures, name)
    figure = draw(*arrays, run=run, subject=f"training images of {data}")
    figures.save(figure, _figure_path(folder, name))


def _figure_path(run_folder: Path, name: str) -> Path:
    return run_folder / "figures" / f"{name}.png"


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
