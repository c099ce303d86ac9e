"""When a run reached an accuracy."""

import json
from pathlib import Path


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
