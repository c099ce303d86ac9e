"""What tests of whole runs share: kills, what runs come to, runs without pictures."""

import json

import numpy as np

from mnist_jax import models, report
from mnist_jax.report import training_images
from mnist_jax.runs.folder import RunFolder
from mnist_jax.runs.load import load


def reported_weights(folder):
    """The parameters and statistics in weights.safetensors."""
    run = load(folder)
    return run.params, run.batch_stats


def metrics_without_times(folder):
    """The records of metrics.jsonl, without the times."""
    lines = RunFolder(folder).metrics.read_text().splitlines()
    records = [json.loads(line) for line in lines]
    for record in records:
        del record["seconds"], record["time"]
        record.pop("images_per_second", None)
    return records


def outcome(folder):
    """All that must not depend on how often a run was stopped."""
    results = RunFolder(folder).read_results()
    assert results is not None
    for name in ("train_seconds", "wall_seconds", "images_per_second"):
        del results[name]
    predictions = np.load(folder / "predictions.npz")
    logits = {name: predictions[name].tobytes() for name in predictions.files}
    return results, logits, metrics_without_times(folder)


def leave_out_pictures(setattr=setattr):
    """Have runs draw and tabulate nothing, which takes most of a small one's time."""
    setattr(training_images, "write", lambda *args, **kwargs: None)
    setattr(report, "write", lambda folder, *args: RunFolder(folder).report.touch())
    setattr(models.Model, "summary", lambda model: "")


class Killed(BaseException):
    """Stands for the end of the process: nothing catches it."""


def kill_at(monkeypatch, target, name, count):
    """Make the `count`-th call of `target.name` end the run before it does its work."""
    original, calls = getattr(target, name), iter(range(1, 1_000))

    def killing(*args, **kwargs):
        if next(calls) == count:
            raise Killed
        return original(*args, **kwargs)

    monkeypatch.setattr(target, name, killing)
