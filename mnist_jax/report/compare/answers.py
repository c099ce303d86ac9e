"""The predictions of several networks for the same test images."""

import collections
import hashlib
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Int64, Integer, UInt8

from mnist_jax import data
from mnist_jax.config import from_stored
from mnist_jax.errors import UserError
from mnist_jax.evaluation import significance
from mnist_jax.report.compare import findings
from mnist_jax.report.compare.groups import Comparison, Group, identities
from mnist_jax.report.compare.tables import Table, labels
from mnist_jax.report.record import Record
from mnist_jax.runs import predictions
from mnist_jax.runs.folder import RunFolder


class Answers(NamedTuple):
    """The predictions of some networks for the same images."""

    groups: list[Group]
    names: list[str]
    """Of the networks: their group's label, and their seed."""
    runs: list[Record]
    """One of each group: of the lowest seed that has its predictions."""
    labels: Integer[np.ndarray, " n"]
    predicted: Int64[np.ndarray, "networks n"]

    @property
    def right(self) -> Bool[np.ndarray, "networks n"]:
        """Which predictions are right."""
        return self.predicted == self.labels

    def wrong_by_all(self) -> Int64[np.ndarray, " m"]:
        """Return the indices of images that no network gets right."""
        return np.flatnonzero(~self.right.any(axis=0))

    def wrong_by_only(self, network: int) -> Int64[np.ndarray, " m"]:
        """Return the indices of images that one network alone gets wrong."""
        alone = (~self.right).sum(axis=0) == 1
        return np.flatnonzero(alone & ~self.right[network])


def read(found: Comparison) -> tuple[Answers | None, list[str]]:
    """Read predictions.npz of one run of each group.

    Of networks that were tested on different images, those count that share the images
    of the most networks.

    Returns:
        The answers, or None if there are fewer than two networks; and remarks on the
        other networks, a sentence each.

    Raises:
        UserError: a file is damaged; the message names it.
    """
    having, without = [], []
    for group, label in zip(found.groups, labels(found.groups)[0], strict=True):
        for run in group.runs:
            path = RunFolder(run.folder).predictions
            if path.exists():
                having.append((group, label, run, predictions.read(path)))
                break
        else:
            without.append(label)
    images = identities(
        [
            (
                content.images_sha256 or str(run.results.get("test_images_sha256", "")),
                hashlib.sha256(np.asarray(content.labels, "<i8").tobytes()).digest(),
            )
            for _, _, run, content in having
        ]
    )
    counts = collections.Counter(images)
    chosen = max(counts, key=lambda each: (counts[each], str(each)), default=None)
    kept = [one for one, each in zip(having, images, strict=True) if each == chosen]
    others = [one[1] for one in having if one not in kept]
    notes = []
    if without:
        notes.append(f"Without predictions.npz, hence not here: {', '.join(without)}.")
    if others:
        notes.append(f"Tested on other images, hence not here: {', '.join(others)}.")
    if len(kept) < 2:
        return None, notes
    groups, names, runs, contents = zip(*kept, strict=True)
    predicted = [
        content.logits[group.weights].argmax(axis=1)
        for group, content in zip(groups, contents, strict=True)
    ]
    names = [f"{name}, seed {r.seed}" for name, r in zip(names, runs, strict=True)]
    truth = contents[0].labels
    return Answers(list(groups), names, list(runs), truth, np.stack(predicted)), notes


def images(found: Answers) -> UInt8[np.ndarray, "n h w 1"]:
    """Return the images of the answers.

    Raises:
        UserError: they cannot be loaded, or are others.
    """
    run = found.runs[0]
    config = from_stored(run.config, name=str(RunFolder(run.folder).config))
    split = data.load(config.data).test
    if not np.array_equal(split.labels, found.labels):
        raise UserError(
            f"{RunFolder(run.folder).predictions} is about other images than the data "
            "of its config."
        )
    return split.images


def mcnemar(found: Answers) -> Table:
    """Return a table of McNemar's test for the pairs that `findings` compares."""
    place = {group.key: number for number, group in enumerate(found.groups)}
    pairs = [(place[a.key], place[b.key]) for a, b in findings.pairs(found.groups)]
    right = found.right
    tests = [significance.mcnemar(right[a], right[b]) for a, b in pairs]
    corrected = significance.holm([one.p for one in tests])
    rows = [
        [
            *(found.names[a], found.names[b]),
            *(str(one.only_first), str(one.only_second), findings.p_value(p)),
        ]
        for (a, b), one, p in zip(pairs, tests, corrected, strict=True)
    ]
    header = ["A", "B", "Only A is right", "Only B is right", "p"]
    return Table(header, rows, ["left", "left", "right", "right", "right"])


def summary(found: Answers) -> str:
    """Return how many images are wrong, by how many networks."""
    wrong_by = (~found.right).sum(axis=0)
    alone = ", ".join(
        f"{len(found.wrong_by_only(place))} by {name}"
        for place, name in enumerate(found.names)
    )
    return (
        f"Of {len(found.labels):,} images, {int((wrong_by > 0).sum())} are wrong by at "
        f"least one of {len(found.names)} networks, {int((wrong_by > 1).sum())} by "
        f"several and {len(found.wrong_by_all())} by all. Wrong by one alone: {alone}."
    )
