"""A run on one page: the numbers in templates/report.md.j2."""

import json
import re
from collections.abc import Sequence

import numpy as np

from mnist_jax.report import render
from mnist_jax.report.record import Fields, Record
from mnist_jax.runs.folder import RunFolder, flatten

CONFUSIONS_SHOWN = 15
NUMBERS_UP_TO = 20
"""Classes up to which the picture of a confusion matrix has numbers."""

# Their first and last 5,000 test images are by different groups of writers.
_TWO_POPULATIONS = ("mnist",)


def build(
    record: Record,
    figures: Sequence[str],
    defaults: Fields,
    calibration: Fields,
) -> str:
    """Return the page of a run as Markdown.

    Args:
        record: of the run.
        figures: names of the existing figures, without folder and suffix.
        defaults: the default config, in the layout of config.json.
        calibration: of the reported weights, from `calibration.assess`.
    """
    results = record.results
    scores = results["test"][results["test_weights"]]
    confusion = np.array(scores["confusion"])
    epochs: dict[int, Fields] = {}
    for row in record.epochs:
        epochs.setdefault(row["epoch"], {"phase": row["phase"]})[row["split"]] = row
    filled = [one for one in calibration["bins"] if one["count"]]
    confidences = [one["count"] * one["confidence"] for one in filled]
    return render.markdown(
        "report",
        title=title(record),
        record=record,
        results=results,
        scores=scores,
        environment=record.environment,
        halves=results["data"] in _TWO_POPULATIONS and record.tested_on == "test",
        figures=figures,
        has_weights=RunFolder(record.folder).weights.exists(),
        errors=int(confusion.sum() - np.trace(confusion)),
        confusions=_confusions(confusion) if len(confusion) > NUMBERS_UP_TO else [],
        calibration=calibration,
        claimed=sum(confidences) / scores["examples"],
        several_phases=len({row["phase"] for row in record.epochs}) > 1,
        epochs=epochs,
        changed_fields=_changed_fields(record.config, defaults),
    )


def title(record: Record) -> str:
    """Return the title of a run's page."""
    results = record.results
    return f"{results['config']}: {results['model']} on {results['data']}"


def _confusions(confusion: np.ndarray) -> list[tuple[int, int, int, float]]:
    """Return true and predicted class, count and share of the most frequent ones."""
    counts = confusion - np.diag(np.diag(confusion))
    order = np.argsort(-counts, axis=None, kind="stable")[:CONFUSIONS_SHOWN]
    return [
        (true, predicted, count, count / confusion[true].sum())
        for true, predicted in zip(*np.unravel_index(order, counts.shape), strict=True)
        if (count := int(counts[true, predicted]))
    ]


def _changed_fields(config: Fields, defaults: Fields) -> list[tuple[str, str, str]]:
    """Return name, value and default, as JSON, of the fields that are not defaults."""
    default_of = flatten(defaults)
    rows = []
    for name, value in flatten(config).items():
        # All phases have the defaults of the first.
        default = default_of.get(re.sub(r"^phases\[\d+\]", "phases[0]", name), ...)
        if value != default:
            shown = "-" if default is ... else json.dumps(default)
            rows.append((name, json.dumps(value), shown))
    return rows
