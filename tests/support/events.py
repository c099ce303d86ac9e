"""TensorBoard's event files, read back."""

import json
import struct

import numpy as np
from tensorboardX.proto.event_pb2 import Event  # type: ignore[attr-defined]
from tensorboardX.record_writer import masked_crc32c

from mnist_jax.runs.folder import RunFolder


def read_events(folder):
    """Return the events that a run leaves, checksums verified."""
    content, place, events = RunFolder(folder).events.read_bytes(), 0, []
    while place < len(content):
        head = content[place : place + 8]
        end = place + 12 + struct.unpack("<Q", head)[0]
        body = content[place + 12 : end]
        crcs = content[place + 8 : place + 12] + content[end : end + 4]
        assert struct.unpack("<2I", crcs) == (masked_crc32c(head), masked_crc32c(body))
        events.append(Event.FromString(body))
        place = end + 4
    assert events[0].file_version == "brain.Event:2"
    return events[1:]


def points(folder):
    """Return tag, step and value of everything in the events, in order."""
    return [
        (value.tag, event.step, value.simple_value)
        for event in read_events(folder)
        for value in event.summary.value
    ]


def expected_points(folder):
    """Return the same from metrics.jsonl and results.json."""
    found, figures = [], ("loss", "accuracy")
    for line in RunFolder(folder).metrics.read_text().splitlines():
        row = json.loads(line)
        found += [
            (f"{name}/{row['split']}", row["epoch"], row[name]) for name in figures
        ]
        if row["split"] == "train":
            found.append(("learning_rate", row["epoch"], row["learning_rate"]))
    parts = ("experiment", "session_start_info", "session_end_info")
    found += [(f"_hparams_/{part}", 0, 0.0) for part in parts]
    results = RunFolder(folder).read_results()
    assert results is not None
    tested = results["test"][results["test_weights"]]
    found += [(f"{name}/test", results["epochs"], tested[name]) for name in figures]
    return [(tag, step, float(np.float32(value))) for tag, step, value in found]
