"""Say how far networks can be trusted: intervals, calibration, damaged images.

  mnist-jax evaluate [RUN ...] [--robustness] [--tta] [--data=DATA] [--output=FOLDER]

RUN is the folder of a finished run, a published one, or a weights.safetensors of one;
if none is given, the LeNet-5 that comes with the package. DATA is mnist, tfds or
digits (their test images), a folder of PNG files (in subfolders 0 to 9, or next to a
labels.csv with the columns file,label), or two IDX files as IMAGES,LABELS.

What is found of a run's own test images is written into its folder, in evaluation/.
It describes a network that is finished: nothing may be chosen by it.
"""

import collections
import dataclasses
import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import jax
import numpy as np
from absl import flags
from rich import box
from rich.console import Console
from rich.table import Table

from mnist_jax import data, tree
from mnist_jax.commands import cli
from mnist_jax.config import Data, parse
from mnist_jax.data import doubtful, labelled
from mnist_jax.errors import UserError
from mnist_jax.evaluation import assessment, augmented, robustness
from mnist_jax.report import evaluated
from mnist_jax.report.evaluated import Evaluation, page
from mnist_jax.runs import load
from mnist_jax.runs.folder import RunFolder
from mnist_jax.runs.load import Run

_DATA = flags.DEFINE_string(
    "data", None, "The images, see above. Default: those that the runs were tested on."
)
_OUTPUT = flags.DEFINE_string(
    "output",
    None,
    "A folder for evaluation.json, evaluation.md and pictures, with all runs side by "
    "side. Default: evaluation/ in each run's own folder; published ones are not "
    "written to.",
)
_ROBUSTNESS = flags.DEFINE_bool(
    "robustness", False, "Measure the accuracy on images damaged in nine ways."
)
_LIMIT = flags.DEFINE_integer(
    "limit",
    None,
    "Damage so many of the images only, evenly spaced over the set: for networks that "
    "are slow.",
    lower_bound=1,
)
_TTA = flags.DEFINE_bool(
    "tta", False, f"Test-time augmentation beside: {augmented.DESCRIPTION}."
)
jax.config.config_with_absl()

# Another processor, or other convolutions, may change so many predictions by rounding.
_CHANGED_BY_ROUNDING = 2


class Images(NamedTuple):
    """What networks are evaluated on."""

    split: data.Split
    name: str
    """Such as "test images of mnist"."""
    key: tuple[Any, ...]
    """What tells them from others."""


def main(arguments: list[str]) -> None:
    """Evaluate networks, print what is found and write it down."""
    from mnist_jax.devices import compiler

    output = Path(_OUTPUT.value).expanduser() if _OUTPUT.value else None
    if output and output.exists() and not output.is_dir():
        raise UserError(f"--output={output} is not a folder.")
    if _LIMIT.value and not _ROBUSTNESS.value:
        raise UserError("--limit is about damaged images: it needs --robustness.")
    compiler.keep_compiled()
    runs = [load.load(argument) for argument in arguments] or [load.load()]
    images = images_for(runs, _DATA.value)
    count = len(images.split)
    found = assess(
        runs,
        images,
        tta=_TTA.value,
        damaged=min(_LIMIT.value or count, count) if _ROBUSTNESS.value else 0,
    )
    _show(found, Console())
    if output:
        _write(found, output, images)
        return
    reasons = dict.fromkeys(_not_written(run, images) for run in runs)
    for run, entry in zip(runs, found.runs, strict=True):
        if not _not_written(run, images):
            alone = found._replace(runs=[entry])
            _write(alone, run.path.parent / evaluated.FOLDER, images)
    if missing := [reason for reason in reasons if reason]:
        print(f"Not saved: {'; '.join(missing)}. --output=FOLDER saves it.")


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
        entry |= assessment.assess(
            run.logits(split.images),
            split.labels,
            held=held,
            doubtful=doubtful.INDICES if official else (),
        )
        entry["notes"] = []
        if _key(run.config.data) == images.key:
            entry["notes"] += _check_accuracy(run, name, entry["evaluation"])
        if entry["calibration"]["temperature"] is None:
            why = why_not or "since the loss on the validation images has no minimum"
            entry["notes"].append(f"{name}: no temperature, {why}.")
        if tta:
            probabilities = augmented.predict(run.predict, split.images)
            right = probabilities.argmax(axis=1) == split.labels
            entry["augmented"] = assessment.share_right(right)
        entries.append(entry)
    notes = []
    if official:
        notes.append(
            f"{len(doubtful.INDICES)} labels of the test set are doubtful: of five "
            "people who were asked, at most two gave the same (Northcutt et al., 2021)."
        )
    if tta:
        notes.append(f"Test-time augmentation: {augmented.DESCRIPTION}.")
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
        _, test = data.SOURCES[wanted](config)
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
    source = "mnist" if config.source == "tfds" else config.source
    if config.test_on == "test":
        return source, "test"
    return source, "val", config.val_size, config.split_seed


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


def _held(run: Run, images: Images) -> tuple[assessment.Held | None, str]:
    """Return what a run's temperature is fitted on, or nothing and why."""
    if run.tested_on == "val":
        return None, "since its validation images are those that it was tested on"
    folder = RunFolder(run.path.parent)
    if run.results and folder.predictions.exists():
        which = run.results["test_weights"]
        with np.load(folder.predictions) as arrays:
            if {"val_labels", f"val_{which}"} <= set(arrays.files):
                return assessment.Held(arrays[f"val_{which}"], arrays["val_labels"]), ""
    if _key(run.config.data) != images.key:
        return None, (
            "which is fitted on validation images: it has no predictions.npz, and with "
            "--data its own images are not loaded"
        )
    val = _load_data(_found_here(run.config.data)).val
    return assessment.Held(run.logits(val.images), val.labels), ""


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


def _not_written(run: Run, images: Images) -> str:
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


def _show(found: Evaluation, console: Console) -> None:
    """Print the tables, and what their figures are."""
    console.print(f"Evaluation on {found.data}\n", style="bold", highlight=False)
    console.print(_table(page.accuracies(found.runs)))
    lines = page.notes(found)
    if "robustness" in found.runs[0]:
        console.print()
        console.print(_table(page.robustness(found.runs)))
        lines.append(page.about_robustness(found.runs))
    console.print()
    for line in lines:
        console.print(line, style="dim", markup=False, highlight=False)


def _table(content: page.Table) -> Table:
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for place, title in enumerate(content.header):
        table.add_column(title, justify="right" if place else "left")
    for row in content.rows:
        table.add_row(*row)
    return table


def _write(found: Evaluation, folder: Path, images: Images) -> None:
    names = evaluated.write(found, folder, images.split.images)
    print(f"Wrote {', '.join(names)} in {folder}.")


def start() -> NoReturn:
    """Parse the flags and run."""
    cli.run(main, usage=__doc__ or "", verb="evaluate", takes_arguments=True)
