"""The predictions of several networks for the same test images."""

import collections
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Int64, Integer

from mnist_jax.evaluation import significance
from mnist_jax.report.compare import findings
from mnist_jax.report.compare.groups import Comparison, Group
from mnist_jax.report.record import Record
from mnist_jax.report.render import Table
from mnist_jax.runs import predictions
from mnist_jax.runs.folder import RunFolder


class Answer(NamedTuple):
    """The predictions of one network: of the group's lowest seed that has them."""

    group: Group
    name: str
    run: Record
    labels: Integer[np.ndarray, " n"]
    predicted: Int64[np.ndarray, " n"]

    @property
    def right(self) -> Bool[np.ndarray, " n"]:
        """Which predictions are right."""
        return self.predicted == self.labels


def read(found: Comparison) -> tuple[list[Answer], list[str]]:
    """Read predictions.npz of one run of each group.

    Of networks that were tested on different images, the largest set that shares its
    images is kept.

    Returns:
        The answers to the same images, and sentences about the other networks.

    Raises:
        UserError: a file is damaged; the message names it.
    """
    answers = []
    for group in found.groups:
        for run in group.runs:
            path = RunFolder(run.folder).predictions
            if path.exists():
                tested, _ = predictions.read(path)
                predicted = tested.logits[group.weights].argmax(axis=1)
                name = f"{group.label}, seed {run.seed}"
                answers.append(Answer(group, name, run, tested.labels, predicted))
                break
    sets = collections.Counter(one.run.images for one in answers)
    chosen = max(sets, key=lambda images: (sets[images], images), default=None)
    kept = [one for one in answers if one.run.images == chosen]
    have = {one.group.key for one in answers}
    missing = {
        "Without predictions.npz": [g.label for g in found.groups if g.key not in have],
        "Tested on other images": [a.name for a in answers if a.run.images != chosen],
    }
    notes = [
        f"{why}, hence not here: {', '.join(names)}."
        for why, names in missing.items()
        if names
    ]
    return kept, notes


def mcnemar(answers: list[Answer]) -> Table:
    """Return a table of McNemar's test for the pairs that `findings` compares."""
    by_key = {one.group.key: one for one in answers}
    pairs = [
        (by_key[a.key], by_key[b.key])
        for a, b in findings.pairs([one.group for one in answers])
    ]
    tests = [significance.mcnemar(a.right, b.right) for a, b in pairs]
    corrected = map(findings.p_value, significance.holm([one.p for one in tests]))
    rows = [
        [a.name, b.name, str(one.only_first), str(one.only_second), p]
        for (a, b), one, p in zip(pairs, tests, corrected, strict=True)
    ]
    header = ["A", "B", "Only A is right", "Only B is right", "p"]
    return Table(header, rows, ["left", "left", "right", "right", "right"])
