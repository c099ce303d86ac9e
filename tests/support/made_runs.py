"""Run folders made by hand, and tables read back."""

import io
import json
import re
from typing import Any

from rich.console import Console

from mnist_jax import config as configs
from mnist_jax.report.compare import findings


def scores(accuracy, count=10):
    """The figures of an evaluation; those that no comparison reads are made up."""
    found = dict.fromkeys(("accuracy", "accuracy_first_half", "loss"), accuracy)
    found |= {"accuracy_second_half": accuracy, "accuracy_interval": [accuracy] * 2}
    rows = {"confusion": [[0] * count] * count, "per_class": [{}] * count}
    return found | rows | {"examples": 10_000}


def write_run(
    folder, *, accuracy=0.98, seed=0, config=None, environment=None, **fields
):
    """Write the three files of a finished run; `config` as on the command line."""
    whole = configs.to_json(configs.Experiment())
    whole |= {"name": "lenet5", "seed": seed}
    for name, value in (config or {}).items():
        part: Any = whole
        *path, last = re.findall(r"[a-z_]+|[0-9]+", name)
        for key in path:
            part = part[int(key) if key.isdigit() else key]
        if value is ...:
            del part[last]
        else:
            part[last] = value
    device = {"device": "cpu", "device_kind": "CPU", "device_count": 1, "cores": 2}
    results = {
        "kind": "network",
        "config": whole["name"],
        "model": "lenet5",
        "classes": list("0123456789"),
        "data": "mnist",
        "tested_on": "test",
        "test_images_sha256": "a",
        "seed": seed,
        "parameters": 61706,
        "epochs": 50,
        "best_epoch": 9,
        "best_monitor": "val_loss",
        "test_weights": "last",
        "test_accuracy": accuracy,
        "train_seconds": 540.0,
        "wall_seconds": 600.0,
        "images_per_second": 1000.0,
        "parameters_sha256": f"{accuracy}",
        "test": {"last": scores(accuracy), "best": scores(accuracy / 2)},
        "val": {"last": scores(0.75), "best": scores(0.25)},
    }
    provenance = {
        "git_commit": "0123456789abcdef" * 2 + "-dirty",
        "command": "python x",
    }
    folder.mkdir(parents=True, exist_ok=True)
    for name, value in {
        "config": whole,
        "environment": device | provenance | (environment or {}),
        "results": results | fields,
    }.items():
        kept = {key: item for key, item in value.items() if item is not ...}
        (folder / f"{name}.json").write_text(json.dumps(kept))
    return folder


def parse_table(lines):
    """Return the cells of a Markdown table's rows; they must all be as many."""
    rows = [re.split(r"(?<!\\)\|", line.strip())[1:-1] for line in lines]
    assert len({len(row) for row in rows}) == 1
    assert all(re.fullmatch(r" *:?-+:? *", cell) for cell in rows[1])
    return [[cell.strip() for cell in row] for row in rows if row is not rows[1]]


def tables_of(markdown):
    """Return the Markdown tables of a text, each as dicts by title."""
    blocks = [block for block in markdown.split("\n\n") if block.startswith("|")]
    tables = [parse_table(block.splitlines()) for block in blocks]
    return [
        [dict(zip(rows[0], row, strict=True)) for row in rows[1:]] for rows in tables
    ]


def shown(found, width):
    """Return what a terminal of some width shows."""
    file = io.StringIO()
    findings.show(found, Console(file=file, width=width))
    return file.getvalue()
