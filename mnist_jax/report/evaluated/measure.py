"""The measurements of `mnist-jax evaluate`: networks applied to images."""

import collections
import dataclasses
import functools
import zipfile
import zlib
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
from mnist_jax.runs.folder import RunFolder
from mnist_jax.runs.load import Run

# Another processor, or other convolutions, may change so many predictions by rounding.
_CHANGED_BY_ROUNDING = 2
_BAD_ARCHIVES = (zipfile.BadZipFile, zlib.error)


class Images(NamedTuple):
    """The images that networks are evaluated on."""

    split: data.Split
    name: str
    """Such as "test images of mnist"."""
    key: tuple[Any, ...]
    """Identifies them."""


def assess(
    runs: Sequence[Run], images: Images, *, tta: bool = False, damaged: int = 0
) -> Evaluation:
    """Evaluate networks on images.

    Args:
        runs: the networks.
        images: the same for all.
        tta: whether to try test-time augmentation.
        damaged: how many of the images to damage; 0 for none.

    Raises:
        UserError: a network does not have the accuracy that its results.json reports.
    """
    split = images.split
    entries: list[dict[str, Any]] = []
    official = images.key == ("mnist", "test")
    for name, run in zip(_names(runs), runs, strict=True):
        held, why_not = _held(run, images)
        entry: dict[str, Any] = {"name": name, "parameters_sha256": _checksum(run)}
        logits = run.logits(split.images)
        entry["evaluation"] = evaluate(logits, split.labels, run.classes)
        entry["calibration"] = calibration.assess(logits, split.labels, held)
        if official:
            right = np.delete(logits.argmax(1) == split.labels, doubtful.INDICES)
            entry["without_doubtful_labels"] = scores.proportion(right)
        entry["notes"] = []
        if _key(run.config.data) == images.key:
            entry["notes"] += _check_accuracy(run, name, entry["evaluation"])
        if entry["calibration"]["temperature"] is None:
            why = why_not or "since the loss on the validation images has no minimum"
            entry["notes"].append(f"{name}: no temperature, {why}.")
        if tta:
            probabilities = robustness.predict_views(run.predict, split.images)
            right = probabilities.argmax(axis=1) == split.labels
            entry["augmented"] = scores.proportion(right)
        entries.append(entry)
    notes = []
    if official:
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


def images_for(runs: Sequence[Run], wanted: str | None) -> Images:
    """Return the images of --data, or those that the runs were tested on."""
    if wanted is None:
        keys = [_key(run.config.data) for run in runs]
        if len(set(keys)) > 1:
            each = (
                f"{name} on {_name(run.config.data)}"
                for name, run in zip(_names(runs), runs, strict=True)
            )
            raise UserError(
                f"The runs were tested on different images: {', '.join(each)}. "
                "--data=mnist, for example, says which ones to take for all."
            )
        config = _found_here(runs[0].config.data)
        return Images(_load_data(config).test, _name(config), keys[0])
    if wanted in data.SOURCES:
        config = parse({"source": wanted}, Data)
        _, test = data.read(config)
        return Images(test, _name(config), _key(config))
    if "," in wanted:
        images_path, _, labels_path = wanted.partition(",")
        paths = Path(images_path).expanduser(), Path(labels_path).expanduser()
        return Images(labelled.read_idx(*paths), f"images of {paths[0].name}", paths)
    folder = Path(wanted).expanduser()
    if not folder.exists():
        raise UserError(
            f"--data={wanted}: there is no such folder, and no source of this name "
            f"(known: {', '.join(data.SOURCES)})."
        )
    split = labelled.read_folder(folder)
    return Images(split, f"images of {folder.resolve().name}", (folder,))


@functools.cache
def _load_data(config: Data) -> data.Dataset:
    return data.load(config)


def _key(config: Data) -> tuple[Any, ...]:
    """Return what tells the images that a run was tested on from others."""
    if config.test_on == "test":
        return config.source, "test"
    return config.source, "val", config.val_size, config.split_seed


def _name(config: Data) -> str:
    kind = "validation" if config.test_on == "val" else "test"
    return f"{kind} images of {config.source}"


def _found_here(config: Data) -> Data:
    """Return a run's data, in the usual place if its own is on another machine.

    The files are the same, or an error: their checksums are known.
    """
    if config.dir and not Path(config.dir).expanduser().is_dir():
        return dataclasses.replace(config, dir=None)
    return config


def _held(run: Run, images: Images) -> tuple[tuple[np.ndarray, np.ndarray] | None, str]:
    """Return what a run's temperature is fitted on, or nothing and why."""
    if run.tested_on == "val":
        return None, "since its validation images are those that it was tested on"
    folder = RunFolder(run.path.parent)
    if run.results and folder.predictions.exists():
        logits = f"val_{run.results['test_weights']}"
        try:
            with folder.predictions.open("rb") as file, np.load(file) as arrays:
                return (arrays[logits], arrays["val_labels"]), ""
        except (OSError, EOFError, LookupError, ValueError, *_BAD_ARCHIVES) as error:
            raise UserError(
                f"{folder.predictions} is damaged, or an older version wrote it "
                f"({error}). Without it the validation images are computed again."
            ) from error
    if _key(run.config.data) != images.key:
        return None, (
            "which is fitted on validation images: it has no predictions.npz, and with "
            "--data its own images are not loaded"
        )
    val = _load_data(_found_here(run.config.data)).val
    return (run.logits(val.images), val.labels), ""


def _check_accuracy(run: Run, name: str, found: dict[str, Any]) -> list[str]:
    """Return a note if rounding changed a run's accuracy.

    Raises:
        UserError: it is another accuracy.
    """
    examples = found["examples"]
    changed = round(examples * abs(found["accuracy"] - run.accuracy))
    if not changed:
        return []
    said = f"{name}: {run.accuracy:.4f} is reported, {found['accuracy']:.4f} found here"
    if changed > _CHANGED_BY_ROUNDING:
        raise UserError(
            f"{said}, a difference of {changed} in {examples:,} images. The weights "
            "have the right checksum: the images or the arithmetic are not those of "
            f"the run. Compare environment.json with this machine ({run.path})."
        )
    return [
        f"{said}: a difference of {changed} in {examples:,} images, which rounding "
        "makes on other hardware or with another version."
    ]


def why_not_saved(run: Run, images: Images) -> str:
    """Return why nothing is written beside a run, or nothing."""
    if _key(run.config.data) != images.key:
        return "evaluation/ in a run's folder is for its own test images"
    if not run.results:
        return "a file of weights has no folder of its own"
    if not RunFolder(run.path.parent).metrics.exists():
        return "published runs are left as they are"
    return ""


def _checksum(run: Run) -> str:
    return tree.digest((run.params, run.batch_stats))


def _names(runs: Sequence[Run]) -> list[str]:
    """Name each run by its config and seed, and by its folder if these are equal."""
    names = [f"{run.config.name} (seed {run.config.seed})" for run in runs]
    counts = collections.Counter(names)
    return [
        f"{name} in {run.path.parent}" if counts[name] > 1 else name
        for name, run in zip(names, runs, strict=True)
    ]
