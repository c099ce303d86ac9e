"""A run on one page: the tables and numbers of templates/report.md.j2."""

import json
import re
from collections.abc import Sequence

import numpy as np
from markupsafe import Markup

from mnist_jax.report import render, tables
from mnist_jax.report.record import Fields, Record
from mnist_jax.runs.folder import RunFolder, flatten

EPOCHS_SHOWN = 12
"""Approximate number of rows of the table of epochs; more epochs are thinned."""
CONFUSIONS_SHOWN = 15
FIGURES = (
    *("curves", "confusion_matrix", "mistakes", "reliability", "saliency", "kernels"),
    *("feature_maps", "feature_space", "samples", "augmented"),
)

# Their first and last 5,000 test images are by different groups of writers.
_TWO_POPULATIONS = ("mnist",)
_MONITORS = {
    "val_loss": "lowest validation loss",
    "val_accuracy": "highest validation accuracy",
    "train_loss": "lowest training loss",
}


def build(
    record: Record,
    figures: Sequence[str],
    defaults: Fields,
    calibration: Fields | None = None,
    *,
    list_confusions: bool = False,
) -> str:
    """Return the page of a run as Markdown.

    Args:
        record: of the run.
        figures: names of the existing figures, some of `FIGURES`.
        defaults: the default config, in the layout of config.json.
        calibration: of the reported weights, as `calibration.assess` returns it, if
            there is a figure of it.
        list_confusions: whether to list the most frequent confusions.
    """
    results, monitor = record.results, record.results["best_monitor"]
    scores = results["test"][results["test_weights"]]
    confusion = np.array(scores["confusion"])
    errors = int(confusion.sum() - np.trace(confusion))
    claimed = verdict = None
    if calibration:
        bins = calibration["bins"]
        claimed = sum(one["count"] * (one.get("confidence") or 0) for one in bins)
        claimed /= scores["examples"]
        low, high = scores["accuracy_interval"]
        verdict = "above" if claimed > high else "below" if claimed < low else "within"
    return render.markdown(
        "report",
        title=title(record),
        results=results,
        environment=record.environment,
        config=record.config,
        summary=record.summary,
        tested_on=record.tested_on,
        monitor=_MONITORS.get(monitor, monitor),
        halves=results["data"] in _TWO_POPULATIONS and record.tested_on == "test",
        figures=figures,
        has_weights=RunFolder(record.folder).weights.exists(),
        accuracies=_accuracies(record),
        circumstances=_circumstances(record),
        errors=errors,
        confusions=_confusions(record, confusion) if list_confusions and errors else "",
        calibration=calibration,
        claimed=claimed,
        verdict=verdict,
        per_class=_per_class(record, scores["per_class"]),
        selection=len({row["epoch"] for row in record.epochs}) > EPOCHS_SHOWN,
        epochs=epochs_table(record.epochs, results["best_epoch"]),
        changed_fields=_changed_fields(record.config, defaults),
    )


def title(record: Record) -> str:
    """Return the title of a run's page."""
    results = record.results
    return f"{results['config']}: {results['model']} on {results['data']}"


def run_name(config: str, seed: int) -> str:
    """Return the name of a run in the titles of figures."""
    return f"{config} (seed {seed})"


def epochs_table(epochs: Sequence[Fields], best_epoch: int) -> Markup:
    """Return loss and accuracy by epoch, thinned if long, with the best epoch bold.

    Args:
        epochs: lines of metrics.jsonl, ascending in epoch.
        best_epoch: always among the rows.
    """
    by_epoch: dict[int, dict[str, Fields]] = {}
    for line in epochs:
        by_epoch.setdefault(line["epoch"], {})[line["split"]] = line
    phases = {line["epoch"]: line["phase"] for line in epochs}
    several = len(set(phases.values())) > 1
    rows = []
    for epoch in thinned(phases, best_epoch):
        train, val = (by_epoch[epoch].get(split, {}) for split in ("train", "val"))
        cells = [str(epoch), *([phases[epoch]] if several else [])]
        cells += [tables.number(train.get("learning_rate"))]
        for split in (train, val):
            cells.append(tables.loss(split.get("loss")))
            cells.append(tables.accuracy(split.get("accuracy")))
        cells += [tables.duration(train.get("seconds", 0) + val.get("seconds", 0))]
        if epoch == best_epoch:
            cells = [Markup(f"**{render.escape(cell)}**") for cell in cells]
        rows.append(cells)
    header = ["Epoch", *(["Phase"] if several else []), "Learning rate", "Train loss"]
    header += ["Train accuracy", "Val loss", "Val accuracy", "Time"]
    align = ["left" if name == "Phase" else "right" for name in header]
    return render.table(header, rows, align)


def thinned(phases: dict[int, str], best_epoch: int) -> list[int]:
    """Return which epochs to list: all if they are few, else an even selection.

    The first, the last, the best and the last one of each phase are always among them.

    Args:
        phases: the phase of each epoch, ascending.
        best_epoch: one of them.
    """
    epochs = list(phases)
    if len(epochs) <= EPOCHS_SHOWN:
        return epochs
    even = np.linspace(0, len(epochs) - 1, EPOCHS_SHOWN - 2).round().astype(int)
    ends = [
        one
        for one, after in zip(epochs, epochs[1:], strict=False)
        if phases[one] != phases[after]
    ]
    chosen = {*(epochs[place] for place in even), *ends, best_epoch}
    return sorted(chosen & set(epochs))


def _accuracies(record: Record) -> Markup:
    """Return the table of last and best weights on validation and test images."""
    # A run that was tested on validation images has the same ones as "test".
    names = {"test": "Test", "val": "Validation"}
    splits = ("test", "val") if record.tested_on == "test" else ("val",)
    rows = [
        [
            names[split],
            weights,
            f"{found['examples']:,}",
            tables.accuracy(found["accuracy"]),
            tables.interval(found["accuracy_interval"]),
            tables.loss(found["loss"]),
        ]
        for split in splits
        for weights, found in record.results[split].items()
    ]
    header = ["Set", "Weights", "Images", "Accuracy", "95 % interval", "Loss"]
    return render.table(header, rows, ["left"] * 2 + ["right"] * 4)


def _circumstances(record: Record) -> Markup:
    """Return the table of times, hardware and versions; unknown ones are left out."""
    results, environment = record.results, record.environment
    versions = environment["versions"].items()
    items = {
        "Training": f"{tables.duration(results['train_seconds'])}, "
        f"{results['images_per_second']:,.0f} images per second",
        "Whole run": tables.duration(results["wall_seconds"]),
        "Hardware": ", ".join(
            filter(None, [record.hardware, environment.get("platform")])
        ),
        "Versions": ", ".join(f"{name} {version}" for name, version in versions),
        "Git commit": environment.get("git_commit") or "",
        "SHA-256 of the weights": results["parameters_sha256"],
    }
    rows = [[name, text] for name, text in items.items() if text]
    return render.table(["", "Value"], rows, ["left", "left"])


def _confusions(record: Record, confusion: np.ndarray) -> Markup:
    """Return the table of the most frequent confusions."""
    counts = confusion - np.diag(np.diag(confusion))
    order = np.argsort(-counts, axis=None, kind="stable")[:CONFUSIONS_SHOWN]
    rows = [
        [
            record.classes[true],
            record.classes[predicted],
            f"{counts[true, predicted]:,}",
            f"{100 * counts[true, predicted] / confusion[true].sum():.1f} %",
        ]
        for true, predicted in zip(*np.unravel_index(order, counts.shape), strict=True)
        if counts[true, predicted]
    ]
    header = ["True", "Predicted", "Images", "Of the true class"]
    return render.table(header, rows, ["left", "left", "right", "right"])


def _per_class(record: Record, scores: Sequence[Fields]) -> Markup:
    """Return precision, recall, F1 and number of images of each class."""
    rows = [
        [
            name,
            *(
                tables.accuracy(score[figure])
                for figure in ("precision", "recall", "f1")
            ),
            f"{score['support']:,}",
        ]
        for name, score in zip(record.classes, scores, strict=True)
    ]
    header = ["Class", "Precision", "Recall", "F1", "Images"]
    return render.table(header, rows, ["left"] + ["right"] * 4)


def _changed_fields(config: Fields, defaults: Fields) -> Markup:
    """Return the table of the fields that differ from their defaults."""
    default_of = flatten(defaults)
    rows = []
    for name, value in flatten(config).items():
        # All phases have the defaults of the first.
        default = default_of.get(re.sub(r"^phases\[\d+\]", "phases[0]", name), ...)
        if value != default and name != "format":  # of config.json, not of the run
            shown = "-" if default is ... else render.code(json.dumps(default))
            rows.append([render.code(name), render.code(json.dumps(value)), shown])
    return render.table(["Field", "Value", "Default"], rows, ["left"] * 3)
