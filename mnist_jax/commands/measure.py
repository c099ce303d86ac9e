"""The measurements of `mnist-jax evaluate`: networks applied to images."""

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from mnist_jax import data, files
from mnist_jax.config import Data, parse
from mnist_jax.data import labelled
from mnist_jax.errors import UserError
from mnist_jax.evaluation import calibration, evaluate, robustness, scores
from mnist_jax.report.evaluated import Evaluation
from mnist_jax.runs import predictions, trained
from mnist_jax.runs.folder import RunFolder
from mnist_jax.runs.trained import Trained

# Another processor, or other convolutions, may change up to this many predictions.
_CHANGED_BY_ROUNDING = 2


class Images(NamedTuple):
    """The images that networks are evaluated on."""

    split: data.Split
    name: str
    """Such as "test images of mnist"."""


def assess(
    runs: Sequence[Trained], images: Images, *, tta: bool = False, damaged: int = 0
) -> Evaluation:
    """Evaluate networks on images.

    Args:
        runs: the networks.
        images: the same for all.
        tta: whether to try test-time augmentation.
        damaged: how many of the images to damage; 0 for none.

    Raises:
        UserError: a network does not have the accuracy that its results.json reports,
            or images are to be damaged or turned that are not grey.
    """
    split, channels = images.split, images.split.images.shape[-1]
    if (tta or damaged) and channels != 1:
        raise UserError(
            f"--robustness and --tta are for grey images; those of {images.name} have "
            f"{channels} channels."
        )
    entries: list[dict[str, Any]] = []
    notes = [f"Test-time augmentation: {robustness.ABOUT_VIEWS}."] if tta else []
    for name, run in zip(trained.names(runs), runs, strict=True):
        logits = run.logits(split.images)
        held, why_not = _held(run, images)
        entry = {
            "name": name,
            "parameters_sha256": run.parameters_sha256,
            "evaluation": evaluate(logits, split.labels, run.classes),
            "calibration": calibration.assess(logits, split.labels, held),
        }
        if is_own(run, images):
            notes += _check_accuracy(run, name, entry["evaluation"])
        if entry["calibration"]["temperature"] is None:
            notes.append(f"{name}: no temperature, {why_not}.")
        if tta:
            views = robustness.predict_views(run.predict, split.images)
            right = views.argmax(axis=1) == split.labels
            entry["augmented"] = scores.proportion(right)
        entries.append(entry)
    if damaged:
        part = robustness.spread(split, damaged)
        measured = robustness.measure([run.logits for run in runs], part)
        for entry, figures in zip(entries, measured, strict=True):
            entry["robustness"] = figures
    return Evaluation(images.name, entries, notes)


def images_for(runs: Sequence[Trained], wanted: str | None) -> Images:
    """Return the images of --data, or those that the runs were tested on.

    Raises:
        UserError: there are no such images, their classes are not those of the runs, or
            the runs were tested on different images.
    """
    if wanted is None:
        different = sorted({*map(_name, runs)})
        digests = {run.results["test_images_sha256"] for run in runs if run.results}
        if len(different) > 1 or len(digests) > 1:
            raise UserError(
                f"The runs were tested on different images: {', '.join(different)}. "
                "Choose the images for all by --data=mnist, for example."
            )
        config = trained.found_here(runs[0].data)
        _check_task(runs, config.source, data.task(config))
        return Images(_load(config).test, _name(runs[0]))
    path, task = files.expand(wanted), runs[0].task
    if wanted in data.SOURCES or (":" in wanted and not path.exists()):
        config = parse({"source": wanted}, Data)
        _check_task(runs, wanted, data.task(config))
        return Images(data.read(config)[1], f"test images of {wanted}")
    _check_task(runs, str(runs[0].path), task)
    if "," in wanted:
        images, labels = (files.expand(p) for p in wanted.split(",", 1))
        split, path = labelled.read_idx(images, labels, task), images
    elif path.exists():
        split = labelled.read_folder(path, task)
    else:
        raise UserError(
            f"--data={wanted}: there is no such folder, and no source of this name "
            f"(known: {', '.join(data.SOURCES)})."
        )
    return Images(split, f"images of {path.resolve().name}")


def is_own(run: Trained, images: Images) -> bool:
    """Return whether images are those that a run was tested on."""
    if run.results is None:
        return _name(run) == images.name
    return run.results["test_images_sha256"] == data.images_sha256(images.split.images)


def _check_task(runs: Sequence[Trained], source: str, task: data.Task) -> None:
    """Raise UserError unless all runs have the classes and the shape of images."""

    def text(of: data.Task) -> str:
        names = ", ".join(of.classes[:3]) + (", ..." if of.classes[3:] else "")
        size = "x".join(map(str, of.image_shape))
        return f"{len(of.classes)} classes ({names}) and images of {size}"

    for run in runs:
        if run.task != task:
            raise UserError(
                f"{run.path} is for {text(run.task)}, but {source} has "
                f"{text(task)}. Choose images of the same classes and shape."
            )


_load = functools.cache(data.load)


def _name(run: Trained) -> str:
    """Return a name of the images that a run was tested on, which identifies them."""
    config = run.data
    if run.tested_on == "test":
        return f"test images of {config.source}"
    split = f"{config.val_size:,}, drawn with seed {config.split_seed}"
    return f"validation images of {config.source} ({split})"


def _held(
    run: Trained, images: Images
) -> tuple[tuple[np.ndarray, np.ndarray] | None, str]:
    """Return logits and labels for a run's temperature, and why it may have none."""
    why_not = "since the loss on the validation images has no minimum"
    if run.tested_on == "val":
        return None, "since its validation images are those that it was tested on"
    path = RunFolder(run.path.parent).predictions
    if run.results and path.exists():
        _, val = predictions.read(path)
        return (val.logits[run.weights], val.labels), why_not
    if not is_own(run, images):
        return None, "since its validation images are not loaded with --data"
    split = _load(trained.found_here(run.data)).val
    return (run.logits(split.images), split.labels), why_not


def _check_accuracy(run: Trained, name: str, found: dict[str, Any]) -> list[str]:
    """Return a note if rounding changed a run's accuracy; UserError if more did."""
    examples = found["examples"]
    changed = round(examples * abs(found["accuracy"] - run.accuracy))
    text = (
        f"{name}: {run.accuracy:.4f} is reported, {found['accuracy']:.4f} found here, "
        f"a difference of {changed} in {examples:,} images"
    )
    if changed > _CHANGED_BY_ROUNDING:
        raise UserError(
            f"{text}. The weights have the right checksum, so that the images or the "
            "arithmetic are not those of the run. Compare environment.json with this "
            f"machine ({run.path})."
        )
    return [f"{text}, by rounding."] if changed else []
