"""TensorBoard's event files, read back."""

import json

import numpy as np
from tensorboardX.proto.event_pb2 import Event  # type: ignore[attr-defined]

from mnist_jax.runs.folder import RunFolder


def _events(path):
    content, place = path.read_bytes(), 0
    while place < len(content):
        length = int.from_bytes(content[place : place + 8], "little")
        yield Event.FromString(content[place + 12 : place + 12 + length])
        place += length + 16


def points(folder):
    """Return value and tag by step, as TensorBoard shows them.

    A file that begins with a step hides the points of earlier files from there on.
    """
    found = {}
    for path in sorted(RunFolder(folder).events.iterdir()):
        for event in _events(path):
            if event.HasField("session_log"):
                found = {k: v for k, v in found.items() if k[0] < event.step}
            for value in event.summary.value:
                if value.HasField("simple_value") and value.tag[0] != "_":
                    found[event.step, value.tag] = value.simple_value
    return found


def expected_points(folder):
    """Return the same from metrics.jsonl and results.json."""
    found, figures = {}, ("loss", "accuracy")
    for line in RunFolder(folder).metrics.read_text().splitlines():
        row = json.loads(line)
        for name in figures:
            found[row["epoch"], f"{name}/{row['split']}"] = row[name]
        if row["split"] == "train":
            found[row["epoch"], "learning_rate"] = row["learning_rate"]
    results = RunFolder(folder).read_results()
    assert results is not None
    if results["tested_on"] == "test":
        tested = results["test"][results["test_weights"]]
        for name in figures:
            found[results["epochs"], f"{name}/test"] = tested[name]
    return {key: float(np.float32(value)) for key, value in found.items()}
