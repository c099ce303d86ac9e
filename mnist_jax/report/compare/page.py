"""A comparison as a page: comparison.md with its pictures, comparison.html with all."""

import collections
import itertools
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool

from mnist_jax import files
from mnist_jax.evaluation import significance
from mnist_jax.report import render
from mnist_jax.report.compare import figures, findings, tables
from mnist_jax.report.compare.groups import Comparison, Group, series
from mnist_jax.report.figures import save
from mnist_jax.report.render import Table
from mnist_jax.runs import predictions
from mnist_jax.runs.folder import RunFolder


class Answer(NamedTuple):
    """The predictions of one network: of the group's lowest seed that has them."""

    group: Group
    name: str
    images: str
    """The checksum of the images."""
    right: Bool[np.ndarray, " n"]
    """Which predictions are right."""


def write(found: Comparison, folder: Path) -> None:
    """Write comparison.md and comparison.html into a folder, which may be new.

    Raises:
        UserError: a run's file is damaged; the message names it.
        OSError: a file cannot be written.
    """
    groups = found.groups
    answers, notes = read_answers(found)
    drawn = {"accuracy": figures.accuracy(groups)}
    found_series = sorted(series(groups), key=lambda each: each.field)
    for field, same in itertools.groupby(found_series, key=lambda each: each.field):
        drawn[f"by_{field.replace('.', '_')}"] = figures.varied([*same])
    for name, figure in drawn.items():
        save(figure, folder / "figures" / f"{name}.png")
    text = render.markdown(
        "comparison",
        results=tables.results(found),
        explanation=[tables.EXPLANATION, *found.notes],
        findings=findings.table(groups),
        about_findings=findings.EXPLANATION,
        figures=drawn,
        mcnemar=mcnemar(answers),
        notes=notes,
    )
    files.write_text(folder / "comparison.md", text)
    page = render.html(text, "Comparison", folder / "figures")
    files.write_text(folder / "comparison.html", page)


def read_answers(found: Comparison) -> tuple[list[Answer], list[str]]:
    """Read predictions.npz of one run of each group.

    Of networks that were tested on different images, the largest set that shares its
    images is kept.

    Returns:
        The answers to the same images, and sentences about the other networks.

    Raises:
        UserError: a file is damaged; the message names it.
    """
    answers, without = [], []
    for group in found.groups:
        having = [r for r in group.runs if RunFolder(r.folder).predictions.exists()]
        if not having:
            without.append(group.label)
            continue
        run = having[0]
        tested, _ = predictions.read(RunFolder(run.folder).predictions)
        right = tested.logits[group.weights].argmax(axis=1) == tested.labels
        name = f"{group.label}, seed {run.seed}"
        answers.append(Answer(group, name, run.images, right))
    sets = collections.Counter(one.images for one in answers)
    chosen = max(sets, key=lambda images: (sets[images], images), default=None)
    missing = {
        "Without predictions.npz": without,
        "Tested on other images": [a.name for a in answers if a.images != chosen],
    }
    notes = [
        f"{why}, hence not here: {', '.join(names)}."
        for why, names in missing.items()
        if names
    ]
    return [one for one in answers if one.images == chosen], notes


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
