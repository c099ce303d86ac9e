"""Which test images networks get right and wrong, one beside the other."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Int64, Integer, UInt8

from mnist_jax import data
from mnist_jax.config import from_stored
from mnist_jax.errors import UserError
from mnist_jax.evaluation import significance
from mnist_jax.evaluation.significance import McNemar
from mnist_jax.report.comparison.columns import labels
from mnist_jax.report.comparison.groups import Comparison
from mnist_jax.report.comparison.runs import Run
from mnist_jax.report.inputs import read_predictions
from mnist_jax.runs.folder import RunFolder


class Answers(NamedTuple):
    """What some networks say to the same images."""

    names: list[str]
    runs: list[Run]
    """One run for each network: of the lowest seed that has its predictions."""
    labels: Integer[np.ndarray, " n"]
    predicted: Int64[np.ndarray, "networks n"]

    @property
    def right(self) -> Bool[np.ndarray, "networks n"]:
        """Which answers are right."""
        return self.predicted == self.labels

    def wrong_by_all(self) -> Int64[np.ndarray, " m"]:
        """Return the places of images that no network gets right."""
        return np.flatnonzero(~self.right.any(axis=0))

    def wrong_by_only(self, network: int) -> Int64[np.ndarray, " m"]:
        """Return the places of images that one network alone gets wrong."""
        alone = (~self.right).sum(axis=0) == 1
        return np.flatnonzero(alone & ~self.right[network])

    def mcnemar(self) -> dict[tuple[int, int], McNemar]:
        """Test every pair of networks, with p-values corrected for their number."""
        count = len(self.names)
        found = {
            (a, b): significance.mcnemar(self.right[a], self.right[b])
            for a in range(count)
            for b in range(a + 1, count)
        }
        corrected = significance.holm([one.p for one in found.values()])
        return {
            pair: one._replace(p=p)
            for (pair, one), p in zip(found.items(), corrected, strict=True)
        }


def read(comparison: Comparison) -> tuple[Answers | None, list[str]]:
    """Read predictions.npz of one run of each experiment.

    Returns:
        The answers, or None if there are fewer than two networks; and what is missing,
        a sentence each.

    Raises:
        UserError: a file is damaged; the message names it.
    """
    names, runs, truths, predicted = [], [], [], []
    without, elsewhere = [], []
    for group, label in zip(
        comparison.groups, labels(comparison.groups)[0], strict=True
    ):
        having = (r for r in group.runs if RunFolder(r.folder).predictions.exists())
        if not (run := next(having, None)):
            without.append(str(label))
            continue
        found = read_predictions(run.folder)
        if truths and not np.array_equal(truths[0], found.labels):
            elsewhere.append(str(label))
            continue
        names.append(f"{label}, seed {run.seed}")
        runs.append(run)
        truths.append(found.labels)
        predicted.append(found.logits[group.weights].argmax(axis=1))
    notes = []
    if without:
        notes.append(f"No predictions.npz, hence not here: {', '.join(without)}.")
    if elsewhere:
        notes.append(
            f"Tested on other images than {names[0]}, hence not here: "
            f"{', '.join(elsewhere)}."
        )
    if len(names) < 2:
        return None, notes
    return Answers(names, runs, truths[0], np.stack(predicted)), notes


def images(found: Answers) -> UInt8[np.ndarray, "n 28 28 1"]:
    """Return the images that the answers are about.

    Raises:
        UserError: they cannot be had, or are others.
    """
    run: Run = found.runs[0]
    config = from_stored(run.config, name=str(RunFolder(run.folder).config))
    split = data.load(config.data).test
    if not np.array_equal(split.labels, found.labels):
        raise UserError(
            f"{RunFolder(run.folder).predictions} is about other images than the data "
            "of its config."
        )
    return split.images


def mcnemar_rows(found: Answers) -> tuple[list[str], Sequence[list[str]]]:
    """Return the header and the rows of a table of all pairs.

    A cell says how many images only the row's network gets right, how many only the
    column's, and the p-value.
    """
    from mnist_jax.report.comparison.separation import p_value

    tests = found.mcnemar()
    rows = []
    for a, name in enumerate(found.names):
        cells = [f"{a + 1}: {name}"]
        for b in range(len(found.names)):
            one = tests.get((min(a, b), max(a, b)))
            if one is None:
                cells.append("")
                continue
            counts = (one.only_first, one.only_second)[:: 1 if a < b else -1]
            cells.append(f"{counts[0]} : {counts[1]}, p {_with_sign(p_value(one.p))}")
        rows.append(cells)
    return ["Network", *(str(k + 1) for k in range(len(found.names)))], rows


def _with_sign(p: str) -> str:
    return p if p.startswith("<") else f"= {p}"
