"""The measurements of `mnist-jax evaluate`: networks applied to images."""

import dataclasses
import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from mnist_jax import data, tree
from mnist_jax.config import Data, parse
from mnist_jax.data import doubtful, labelled
from mnist_jax.errors import UserError
from mnist_jax.evaluation import calibration, evaluate, robustness, scores
from mnist_jax.report.evaluated import Evaluation
from mnist_jax.runs import predictions
from mnist_jax.runs.folder import RunFolder
from mnist_jax.runs.load import Network

# Another processor, or other convolutions, may change up to this many predictions.
_CHANGED_BY_ROUNDING = 2
# The test images of MNIST, of which some labels are doubtful.
_OFFICIAL = "7d6db313aa5e2f0d341c67fd1c8a6c3af3cc5ff49251341a7bc72aa79670430f"


class Images(NamedTuple):
    """The images that networks are evaluated on."""

    split: data.Split
    name: str
    """Such as "test images of mnist"."""
    source: tuple[Any, ...]
    """Identifies them, if a run's config does; else empty."""

    @property
    def sha256(self) -> str:
        """The checksum of the images."""
        return data.images_sha256(self.split.images)


def assess(
    runs: Sequence[Network], images: Images, *, tta: bool = False, damaged: int = 0
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
    for name, run in zip(_names(runs), runs, strict=True):
        logits = run.logits(split.images)
        held, why_not = _held(run, images)
        entry = {
            "name": name,
            "parameters_sha256": tree.digest((run.params, run.batch_stats)),
            "evaluation": evaluate(logits, split.labels, run.classes),
            "calibration": calibration.assess(logits, split.labels, held),
            "notes": [],
        }
        if is_own(run, images):
            entry["notes"] += _check_accuracy(run, name, entry["evaluation"])
        if entry["calibration"]["temperature"] is None:
            entry["notes"].append(f"{name}: no temperature, {why_not}.")
        if images.sha256 == _OFFICIAL:
            right = np.delete(logits.argmax(1) == split.labels, doubtful.INDICES)
            entry["without_doubtful_labels"] = scores.proportion(right)
        if tta:
            views = robustness.predict_views(run.predict, split.images)
            right = views.argmax(axis=1) == split.labels
            entry["augmented"] = scores.proportion(right)
        entries.append(entry)
    notes = []
    if images.sha256 == _OFFICIAL:
        notes.append(
            f"{len(doubtful.INDICES)} labels of the test set are doubtful: of five "
            "people who were asked, at most two gave the same (Northcutt et al., 2021)."
        )
    if tta:
        notes.append(f"Test-time augmentation: {robustness.ABOUT_VIEWS}.")
    if damaged:
        part = robustness.spread(split, damaged)
        measured = robustness.measure([run.logits for run in runs], part)
        for entry, figures in zip(entries, measured, strict=True):
            entry["robustness"] = figures
    return Evaluation(images.name, entries, notes)


def images_for(runs: Sequence[Network], wanted: str | None) -> Images:
    """Return the images of --data, or those that the runs were tested on.

    Raises:
        UserError: there are no such images, their classes are not those of the runs, or
            the runs were tested on different images.
    """
    if wanted is None:
        tested_on = {_source(run.config.data): _name(run) for run in runs}
        if len(names := list(tested_on.values())) > 1:
            raise UserError(
                f"The runs were tested on different images: {', '.join(names)}. "
                "Choose the images for all by --data=mnist, for example."
            )
        config = _found_here(runs[0].config.data)
        _check_task(runs, config.source, data.task(config))
        return Images(_load(config).test, _name(runs[0]), _source(config))
    path = Path(wanted).expanduser()
    if wanted in data.SOURCES or (":" in wanted and not path.exists()):
        config = parse({"source": wanted}, Data)
        _check_task(runs, wanted, data.task(config))
        name = f"test images of {wanted}"
        return Images(data.read(config)[1], name, _source(config))
    task = runs[0].model.task
    _check_task(runs, _names(runs)[0], task)
    if "," in wanted:
        images, labels = (Path(p).expanduser() for p in wanted.split(",", 1))
        split, name = labelled.read_idx(images, labels, task), images.name
    elif path.exists():
        split, name = labelled.read_folder(path, task), path.resolve().name
    else:
        raise UserError(
            f"--data={wanted}: there is no such folder, and no source of this name "
            f"(known: {', '.join(data.SOURCES)})."
        )
    return Images(split, f"images of {name}", ())


def is_own(run: Network, images: Images) -> bool:
    """Return whether images are those that a run was tested on."""
    known = (run.results or {}).get("test_images_sha256")
    return (
        known == images.sha256 if known else _source(run.config.data) == images.source
    )


def _check_task(runs: Sequence[Network], source: str, task: data.Task) -> None:
    """Raise UserError unless all runs have the classes and the shape of images."""

    def text(of: data.Task) -> str:
        names = ", ".join(of.classes[:3]) + (", ..." if of.classes[3:] else "")
        size = "x".join(map(str, of.image_shape))
        return f"{len(of.classes)} classes ({names}) and images of {size}"

    for name, run in zip(_names(runs), runs, strict=True):
        if run.model.task != task:
            raise UserError(
                f"{name} is for {text(run.model.task)}, but {source} has {text(task)}. "
                "Choose images of the same classes and shape."
            )


_load = functools.cache(data.load)


def _source(config: Data) -> tuple[Any, ...]:
    """Identify the images that a run was tested on by its config."""
    if config.test_on == "test":
        return config.source, "test"
    return config.source, "val", config.val_size, config.split_seed


def _name(run: Network) -> str:
    kind = "validation" if run.tested_on == "val" else "test"
    return f"{kind} images of {run.config.data.source}"


def _found_here(config: Data) -> Data:
    """Return a run's data, in the usual place if its own is on another machine."""
    if config.dir and not Path(config.dir).expanduser().is_dir():
        return dataclasses.replace(config, dir=None)
    return config


def _held(
    run: Network, images: Images
) -> tuple[tuple[np.ndarray, np.ndarray] | None, str]:
    """Return logits and labels for a run's temperature, and why it may have none."""
    why_not = "since the loss on the validation images has no minimum"
    if run.tested_on == "val":
        return None, "since its validation images are those that it was tested on"
    path = RunFolder(run.path.parent).predictions
    if run.results and path.exists() and (val := predictions.read(path).val):
        return (val.logits[run.results["test_weights"]], val.labels), why_not
    if not is_own(run, images):
        return None, "since its validation images are not loaded with --data"
    split = _load(_found_here(run.config.data)).val
    return (run.logits(split.images), split.labels), why_not


def _check_accuracy(run: Network, name: str, found: dict[str, Any]) -> list[str]:
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


def _names(runs: Sequence[Network]) -> list[str]:
    """Name each run by its config and seed, and by its folder if these are equal."""
    names = [f"{run.config.name} (seed {run.config.seed})" for run in runs]
    return [
        f"{name} in {run.path.parent}" if names.count(name) > 1 else name
        for name, run in zip(names, runs, strict=True)
    ]
