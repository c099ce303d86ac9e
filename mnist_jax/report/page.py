"""A run on one page: the sections of report.md and report.html."""

import json
import re
from collections.abc import Sequence
from typing import Literal

from mnist_jax.report import tables
from mnist_jax.report.inputs import Fields, Run
from mnist_jax.report.sections import (
    Block,
    Code,
    Folded,
    Page,
    Picture,
    Section,
    Table,
    Text,
)
from mnist_jax.runs.folder import flatten

FIGURES = {
    "curves": ("Learning curves", ""),
    "confusion_matrix": ("Confusion matrix", ""),
    "confusion_matrix_normalized": ("Confusion matrix, row by row in per cent", ""),
    "mistakes": ("Most confident mistakes", ""),
    "reliability": ("Calibration", ""),  # its note depends on the run
    "saliency": (
        "What a prediction is based on",
        "Integrated gradients ([Sundararajan, Taly, Yan, 2017]"
        "(https://arxiv.org/abs/1703.01365)) along the straight path from an empty "
        "image. Each pixel's share adds to the logit (red) or subtracts from it "
        "(blue). The shares sum to the difference between the logits of the image and "
        "of the empty one, usually to within 1 % of the largest such difference.",
    ),
    "kernels": (
        "Kernels of the first layer",
        "Summed over the input channels, which all hold the same grey values.",
    ),
    "feature_maps": (
        "Feature maps of one image",
        "The outputs of the convolutions, from the input on. Every layer has a grey "
        "scale of its own, from its lowest to its highest value.",
    ),
    "feature_space": (
        "Map of the penultimate features",
        "The inputs of the last layer, projected onto their first two principal "
        "components.",
    ),
    "samples": ("Samples of the data", ""),
    "augmented": ("Augmented training images", ""),
}
"""Titles of the figures and notes on them, in the order of the page."""

_TESTED_ON = {"test": "Test", "val": "Validation"}
# Their first and last 5,000 test images are by different groups of writers.
_TWO_POPULATIONS = ("mnist", "tfds")
_MONITORS = {
    "val_loss": "lowest validation loss",
    "val_accuracy": "highest validation accuracy",
    "train_loss": "lowest training loss",
}


def build(
    run: Run,
    figures: Sequence[str],
    defaults: Fields,
    calibration: Fields | None = None,
) -> Page:
    """Return the page of a run.

    Args:
        run: the contents of the run folder's text files.
        figures: names of the existing figures, such as "curves".
        defaults: the default config, in the layout of config.json.
        calibration: of the reported weights, as `calibration.assess` returns it, if
            there is a figure of it.
    """
    results = run.results
    scores = results["test"][results["test_weights"]]["per_class"]
    notes = {name: note for name, (_, note) in FIGURES.items() if name in figures}
    if calibration:
        notes["reliability"] = _about_calibration(calibration, results)
    pictures = [
        Section(title, [*([Text(note)] if note else []), Picture(name, title)])
        for name, note in notes.items()
        for title in [FIGURES[name][0]]
    ]
    layers: list[Block] = [Code(run.summary)]
    if "kernels" not in figures:
        layers.append(
            Text(
                "The run folder has no `weights.safetensors`, so there are no pictures "
                "of the network's kernels, feature maps and features."
            )
        )
    sections = [
        Section(
            "How it was made",
            [Code(run.environment["command"], "sh"), _circumstances(run)],
        ),
        *pictures,
        Section(
            "Digit by digit",
            [
                Text(
                    f"{_TESTED_ON[tested_on(results)]} images, "
                    f"{_weights(results['test_weights'])}."
                ),
                tables.per_class_table(scores),
            ],
        ),
        Section("Epochs", _epochs(run)),
        Section("Layers", layers),
        Section(
            "Config",
            [
                _changed_fields(run.config, defaults),
                Folded("Every field", [Code(json.dumps(run.config, indent=2), "json")]),
            ],
        ),
    ]
    return Page(
        f"{results['config']}: {results['model']} on {results['data']}",
        [Text(summary(results)), _accuracies(results)],
        sections,
    )


def summary(results: Fields) -> str:
    """Return the first paragraph: what was trained, and its accuracy."""
    counting = results["test_weights"]
    evaluation = results["test"][counting]
    sentences = [
        f"The config `{results['config']}` trains the model `{results['model']}` "
        f"({results['parameters']:,} parameters) on `{results['data']}` "
        f"with seed {results['seed']}, for {_count(results['epochs'], 'epoch')}.",
        f"**{_TESTED_ON[tested_on(results)]} accuracy: "
        f"{tables.accuracy(results['test_accuracy'])}** "
        f"(95 % interval {tables.interval(evaluation['accuracy_interval'])}, "
        f"{_count(evaluation['examples'], 'image')}), with the "
        f"{_weights(counting)}{_chosen(results, counting)}. "
        "The config chose beforehand which weights count.",
    ]
    for weights, other in results["test"].items():
        if weights != counting:
            sentences.append(
                f"For comparison, the {_weights(weights)}{_chosen(results, weights)} "
                f"have {tables.accuracy(other['accuracy'])} "
                f"({tables.interval(other['accuracy_interval'])})."
            )
    if results["data"] in _TWO_POPULATIONS and tested_on(results) == "test":
        sentences.append(
            "The halves of the test set are by different groups of writers: "
            f"{tables.accuracy(evaluation['accuracy_first_half'])} on the first, "
            f"{tables.accuracy(evaluation['accuracy_second_half'])} on the second."
        )
    return " ".join(sentences)


def _accuracies(results: Fields) -> Table:
    """Return the table of last and best weights on validation and test images."""
    # A run that was tested on validation images has the same ones as "test".
    splits = ("test", "val") if tested_on(results) == "test" else ("val",)
    rows = [
        [
            _TESTED_ON[split],
            weights,
            f"{evaluation['examples']:,}",
            tables.accuracy(evaluation["accuracy"]),
            tables.interval(evaluation["accuracy_interval"]),
            tables.loss(evaluation["loss"]),
        ]
        for split in splits
        for weights, evaluation in results[split].items()
    ]
    return Table(
        ["Set", "Weights", "Images", "Accuracy", "95 % interval", "Loss"],
        rows,
        ["left", "left", "right", "right", "right", "right"],
    )


def _about_calibration(found: Fields, results: Fields) -> str:
    """Say whether a network claims too much, and what a temperature changes."""
    scores = results["test"][results["test_weights"]]
    images = f"{scores['examples']:,} {_TESTED_ON[tested_on(results)].lower()} images"
    claimed = sum(one["count"] * one.get("confidence", 0) for one in found["bins"])
    claimed /= scores["examples"]
    low, high = scores["accuracy_interval"]
    accuracy = (
        f"its accuracy, {tables.accuracy(scores['accuracy'])} "
        f"({tables.interval(scores['accuracy_interval'])})"
    )
    if low <= claimed <= high:
        verdict = f"is within the 95 % interval of {accuracy}"
    else:
        side, how = ("above", "over") if claimed > high else ("below", "under")
        verdict = f"is {side} the 95 % interval of {accuracy}: it is {how}confident"
    sentences = [
        f"On the {images}, the network's mean confidence, {tables.accuracy(claimed)}, "
        f"{verdict}.",
        "The expected calibration error (ECE), the mean distance between confidence "
        f"and accuracy in {len(found['bins'])} bins, is "
        f"{tables.accuracy(found['ece'])}.",
    ]
    if found["temperature"]:
        sentences.append(
            f"With the logits divided by a temperature of "
            f"{tables.number(found['temperature'])}, fitted on the validation images, "
            f"it is {tables.accuracy(found['ece_scaled'])}; no prediction changes."
        )
    elif tested_on(results) == "test":
        sentences.append(
            "No temperature is fitted, since the loss on the validation images has no "
            "minimum."
        )
    return " ".join(sentences)


def _circumstances(run: Run) -> Table:
    """Return the table of times, hardware and versions; unknown ones are left out."""
    results, environment = run.results, run.environment
    device = environment.get("device_kind") or environment.get("device")
    hardware = [
        f"{environment.get('device_count', 1)} x {device}" if device else "",
        f"{environment['cores']} CPU cores" if environment.get("cores") else "",
        environment.get("platform") or "",
    ]
    items = {
        "Training": f"{tables.duration(results['train_seconds'])}, "
        f"{results['images_per_second']:,.0f} images per second",
        "Whole run": tables.duration(results["wall_seconds"]),
        "Hardware": ", ".join(filter(None, hardware)),
        "Versions": ", ".join(
            f"{name} {version}" for name, version in environment["versions"].items()
        ),
        "Git commit": environment.get("git_commit") or "",
        "SHA-256 of the weights": results["parameters_sha256"],
    }
    rows = [[name, text] for name, text in items.items() if text]
    return Table(["What", "Value"], rows, ["left", "left"])


def _epochs(run: Run) -> list[Block]:
    """Return a paragraph about the best epoch, and the table of epochs."""
    best_epoch = run.results["best_epoch"]
    total = len({line["epoch"] for line in run.epochs})
    selection = "A selection. " if total > tables.EPOCHS_SHOWN else ""
    text = (
        f"Best epoch, in bold: {best_epoch}, by the {_monitor(run.results)}. "
        f"{selection}All epochs, unrounded, are in [metrics.jsonl](metrics.jsonl). "
        "Training figures are means over the steps of the epoch, under the recipe's "
        "augmentation and dropout; validation follows the epoch."
    )
    return [Text(text), tables.epochs_table(run.epochs, best_epoch)]


def _changed_fields(config: Fields, defaults: Fields) -> Table:
    """Return the table of the fields that differ from their defaults."""
    default_of = flatten(defaults)
    rows = []
    for name, value in flatten(config).items():
        # All phases have the defaults of the first.
        default = default_of.get(re.sub(r"^phases\[\d+\]", "phases[0]", name), ...)
        if value != default and name != "format":  # of config.json, not of the run
            shown = "-" if default is ... else f"`{json.dumps(default)}`"
            rows.append([f"`{name}`", f"`{json.dumps(value)}`", shown])
    return Table(["Field", "Value", "Default"], rows, ["left"] * 3)


def tested_on(results: Fields) -> Literal["test", "val"]:
    """Return which images the run was tested on."""
    return "val" if results.get("tested_on") == "val" else "test"


def run_name(config: str, seed: int) -> str:
    """Return the name of a run in the titles of figures."""
    return f"{config} (seed {seed})"


def _weights(weights: str) -> str:
    return f"{weights} epoch's weights"


def _chosen(results: Fields, weights: str) -> str:
    """Describe the choice of the best epoch's weights; "" for the last epoch's."""
    if weights != "best":
        return ""
    return f" (epoch {results['best_epoch']}, chosen by the {_monitor(results)})"


def _monitor(results: Fields) -> str:
    monitor: str = results["best_monitor"]
    return _MONITORS.get(monitor, monitor)


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
