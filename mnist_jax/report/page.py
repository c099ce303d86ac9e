"""report.md: a run on one page."""

import json
import re
from collections.abc import Sequence
from typing import Literal

from mnist_jax.report import tables
from mnist_jax.report.inputs import Fields, Run
from mnist_jax.runs.folder import flatten

FIGURES = {
    "curves": "Learning curves",
    "confusion_matrix": "Confusion matrix",
    "confusion_matrix_normalized": "Confusion matrix, row by row in per cent",
    "mistakes": "Most confident mistakes",
    "samples": "Samples of the data",
    "augmented": "Augmented training images",
}
"""Titles of the figures, in the order of the page."""

_TESTED_ON = {"test": "Test", "val": "Validation"}
# Their first and last 5,000 test images are by different groups of writers.
_TWO_POPULATIONS = ("mnist", "tfds")
_MONITORS = {
    "val_loss": "lowest validation loss",
    "val_accuracy": "highest validation accuracy",
    "train_loss": "lowest training loss",
}


def render(run: Run, figures: Sequence[str], defaults: Fields) -> str:
    """Return the page as Markdown.

    Args:
        run: the contents of the run folder's text files.
        figures: names of the existing figures, such as "curves".
        defaults: the default config, in the layout of config.json.
    """
    results = run.results
    scores = results["test"][results["test_weights"]]["per_class"]
    sections = [
        f"# {results['config']}: {results['model']} on {results['data']}",
        summary(results),
        _accuracies(results),
        "## How it was made",
        tables.fenced(run.environment["command"], "sh"),
        _circumstances(run),
    ]
    for name, title in FIGURES.items():
        if name in figures:
            sections += [f"## {title}", f"![{title}](figures/{name}.png)"]
    sections += [
        "## Digit by digit",
        f"{_TESTED_ON[tested_on(results)]} images, "
        f"{_weights(results['test_weights'])}.",
        tables.per_class_table(scores),
        "## Epochs",
        _epochs(run),
        "## Layers",
        tables.fenced(run.summary),
        "## Config",
        _changed_fields(run.config, defaults),
        "<details>\n<summary>Every field</summary>",
        tables.fenced(json.dumps(run.config, indent=2), "json"),
        "</details>",
    ]
    return "\n\n".join(sections) + "\n"


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


def _accuracies(results: Fields) -> str:
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
    return tables.markdown_table(
        ["Set", "Weights", "Images", "Accuracy", "95 % interval", "Loss"],
        rows,
        ["left", "left", "right", "right", "right", "right"],
    )


def _circumstances(run: Run) -> str:
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
    return tables.markdown_table(["What", "Value"], rows, ["left", "left"])


def _epochs(run: Run) -> str:
    """Return a paragraph about the best epoch, and the table of epochs."""
    best_epoch = run.results["best_epoch"]
    total = len({line["epoch"] for line in run.epochs})
    selection = "A selection. " if total > tables.EPOCHS_SHOWN else ""
    return (
        f"Best epoch, in bold: {best_epoch}, by the {_monitor(run.results)}. "
        f"{selection}All epochs, unrounded, are in [metrics.jsonl](metrics.jsonl). "
        "Training figures are means over the steps of the epoch, under the recipe's "
        "augmentation and dropout; validation follows the epoch."
        f"\n\n{tables.epochs_table(run.epochs, best_epoch)}"
    )


def _changed_fields(config: Fields, defaults: Fields) -> str:
    """Return the table of the fields that differ from their defaults."""
    default_of = flatten(defaults)
    rows = []
    for name, value in flatten(config).items():
        # All phases have the defaults of the first.
        default = default_of.get(re.sub(r"^phases\[\d+\]", "phases[0]", name), ...)
        if value != default:
            shown = "-" if default is ... else json.dumps(default)
            rows.append([f"`{name}`", json.dumps(value), shown])
    return tables.markdown_table(["Field", "Value", "Default"], rows, ["left"] * 3)


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
