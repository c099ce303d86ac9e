"""When a run reached an accuracy, and what an epoch takes other frameworks."""

import importlib
import json
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mnist_jax import experiment
from mnist_jax.data import augment

# Of a training set without its validation images.
_TRAIN_IMAGES = 54_000


def first_epoch(folder: Path, target: float) -> int | None:
    """Return the first epoch of a run with such a validation accuracy, if any."""
    metrics = folder / "metrics.jsonl"
    lines = metrics.read_text().splitlines(keepends=True) if metrics.exists() else []
    for line in lines:
        if line.endswith("\n"):  # otherwise it is being written
            entry = json.loads(line)
            if entry["split"] == "val" and entry["accuracy"] >= target:
                return entry["epoch"]
    return None


def seconds_an_epoch(
    network: str, results: Sequence[dict[str, Any]]
) -> dict[str, float]:
    """Return the seconds that each framework takes for an epoch of the report's recipe.

    Args:
        network: the name of its config file.
        results: what `benchmarks.throughput` has written.
    """
    recipe = importlib.import_module(f"configs.{network}").get_config()
    augmented = augment.create(experiment.parse(recipe).augment) is not None
    return {
        framework: _TRAIN_IMAGES / statistics.median(rates)
        for result in results
        if (result["network"], result["augmented"]) == (network, augmented)
        for framework, rates in result["images_per_second"].items()
    }
