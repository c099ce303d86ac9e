"""Ensembles: several finished runs that answer together.

Their run folders have `ensemble.json`, with the path of each member's folder and the
checksum of its parameters: members are not copied. Stacking adds
`stacking.safetensors`, the weights of its regression.
"""

import dataclasses
import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mnist_jax import data, files, tree
from mnist_jax.combine import members as runs
from mnist_jax.combine import outcome, stacking
from mnist_jax.combine.stacking import BY, Stacker
from mnist_jax.config import Data, Experiment, to_json
from mnist_jax.data import Task
from mnist_jax.evaluation import calibration, significance
from mnist_jax.report import record
from mnist_jax.report.compare.groups import experiment
from mnist_jax.report.render import Table
from mnist_jax.runs import trained, weights
from mnist_jax.runs.folder import RunFolder, check_fields, damaged, flatten
from mnist_jax.runs.trained import Trained

FILE, _STACKER = "ensemble.json", "stacking.safetensors"


@dataclasses.dataclass(frozen=True, repr=False)
class Ensemble(Trained):
    """Several finished runs, combined."""

    members: tuple[Trained, ...]
    by: str
    """How they are combined: a key of `stacking.BY`."""
    stacker: Stacker
    """The weights of the regression, for "stacking"."""

    fitted_on_validation = True

    @property
    def architecture(self) -> str:
        """How many members there are, and how they are combined."""
        return f"{len(self.members)} runs by {BY[self.by]}"

    @property
    def task(self) -> Task:
        """The task of all members."""
        return self.members[0].task

    @property
    def data(self) -> Data:
        """The data of all members."""
        return self.members[0].data

    def _logits(self, images: np.ndarray) -> np.ndarray:
        logits = [member.logits(images) for member in self.members]
        return stacking.combine(logits, self.by, self.stacker)


def load(path: Path | str) -> Ensemble:
    """Load an ensemble and its members.

    Raises:
        UserError: a file is missing or damaged, or a member is missing or has changed.
    """
    folder, results, stored = outcome.read(path, FILE, {str: "by", list: "members"})
    file, members = folder.path / FILE, []
    for entry in stored["members"]:
        check_fields(entry, {str: "path parameters_sha256"}, file, "members: ")
        where, sha256 = folder.path / entry["path"], entry["parameters_sha256"]
        members.append(outcome.load_part(runs.load, where, sha256, file))
    stacker: Stacker = {}
    if stored["by"] == "stacking":
        stacker, _ = weights.read(folder.path / _STACKER)
    if _digest(members, stored["by"], stacker) != results["parameters_sha256"]:
        raise damaged(file, f"it is not the ensemble that {folder.results} reports")
    return Ensemble(
        path=file,
        accuracy=results["test_accuracy"],
        tested_on=results["tested_on"],
        results=results,
        members=tuple(members),
        by=stored["by"],
        stacker=stacker,
    )


def create(
    paths: Sequence[Path], folder: Path, *, by: str, name: str
) -> tuple[dict[str, Any], dict[str, list[str | Table]]]:
    """Combine finished runs, test them once, and write the run folder.

    Args:
        paths: the folders of the members, at least two.
        folder: to write; an ensemble in it is replaced.
        by: a key of `stacking.BY`.
        name: of the config.

    Returns:
        The results, and the sections of the report.

    Raises:
        UserError: a run is not finished, they do not go together, or their data cannot
            be loaded.
        OSError: a file cannot be written.
    """
    members = [runs.load(path) for path in paths]
    runs.check(members, by)
    dataset = data.load(trained.found_here(members[0].data))
    labels, val_labels = dataset.test.labels, dataset.val.labels
    tested, val = zip(*(runs.logits(each, dataset) for each in members), strict=True)
    stacker: Stacker = {}
    averaged, stacked = by, []
    if by == "stacking":
        stacker, held, cost = stacking.fit(val, val_labels)
        averaged = "probabilities"
        stacked = [_about_stacking(val, val_labels, held, cost)]
    else:
        held = stacking.combine(val, by, stacker)
    answers = stacking.combine(tested, by, stacker)
    names = trained.names(members)
    best = max(range(len(val)), key=lambda k: (val[k].argmax(1) == val_labels).mean())
    theirs = tested[best].argmax(axis=1) == labels
    test = significance.mcnemar(answers.argmax(axis=1) == labels, theirs)
    sections: dict[str, list[str | Table]] = {
        f"{len(members)} members, combined by {BY[by]}": [
            runs.table(names, val, val_labels, averaged),
            f"Accuracies on validation images, by {BY[averaged]}. Each turn of the "
            "greedy selection adds the member that leaves the highest accuracy or, if "
            "several do, the lowest loss.",
            *stacked,
        ],
        "Compared with the best member": [
            f"By validation accuracy, it is {names[best]}, which is right on "
            f"{theirs.mean():.2%} of the {members[best].tested_on} images. The "
            f"ensemble alone is right on {test.only_first} of them, this member alone "
            f"on {test.only_second}: p = {test.p:.2g} by McNemar's exact test."
        ],
    }
    reported = [member.results or {} for member in members]
    results = outcome.results(
        dataset,
        answers,
        held,
        kind="ensemble",
        config=name,
        tested_on=members[0].tested_on,
        seed=members[0].seed,
        parameters=sum(each["parameters"] for each in reported),
        parameters_sha256=_digest(members, by, stacker),
        train_seconds=sum(each["train_seconds"] for each in reported),
    )
    config = {
        "name": name,
        "seed": members[0].seed,
        "data": to_json(members[0].data),
        "by": by,
        "members": [_experiment(member) for member in members],
    }
    listed = [
        {
            "path": os.path.relpath(member.path.parent.resolve(), folder.resolve()),
            "parameters_sha256": member.parameters_sha256,
        }
        for member in members
    ]
    folder.mkdir(parents=True, exist_ok=True)
    RunFolder(folder).results.unlink(missing_ok=True)
    if stacker:
        weights.write(folder / _STACKER, stacker, {})
    files.write_json(folder / FILE, {"by": by, "members": listed})
    written = folder, results, dataset, answers, held
    outcome.write(*written, config=config, sections=sections)
    return results, sections


def _digest(members: Sequence[Trained], by: str, stacker: Stacker) -> str:
    parts = [by, *(each.parameters_sha256 for each in members), tree.digest(stacker)]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def _experiment(member: Trained) -> dict[str, Any]:
    """Return the fields of a member's config that are not defaults, without seeds."""
    defaults = flatten(to_json(Experiment()))
    fields = experiment(record.read(member.path.parent))
    return {k: v for k, v in fields.items() if k == "name" or defaults.get(k, ...) != v}


def _about_stacking(
    val: Sequence[np.ndarray], labels: np.ndarray, held: np.ndarray, cost: float
) -> str:
    """Say how little there was to learn from, and what boosting would learn."""
    wrong = np.array([logits.argmax(axis=1) != labels for logits in val])
    regression, boosting = (
        f"{(found.argmax(axis=1) == labels).mean():.4f} (loss "
        f"{calibration.loss(found, labels):.4f})"
        for found in (held, stacking.boosted(val, labels))
    )
    return (
        f"The best member misreads {wrong.sum(axis=1).min()} of {len(labels):,} "
        f"validation images, and {wrong.all(axis=0).sum()} are misread by all: "
        f"stacking has little to learn from. C is {cost:g}, chosen by {stacking.FOLDS} "
        "folds of these images. On folds that it was not fitted to, the regression's "
        f"accuracy is {regression}, that of gradient boosting in its place {boosting}."
    )
