"""Read and check the files of a finished run that its report is made from."""

import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple
from zipfile import BadZipFile

import numpy as np
from jaxtyping import Float32, Integer

from mnist_jax.errors import UserError
from mnist_jax.runs.folder import (
    NUMBER,
    RunFolder,
    Schema,
    check_fields,
    damaged,
    parse_json,
    read_json,
    read_text,
)

Fields = dict[str, Any]

# The fields that the report quotes, by their types. A file may have more.
_RESULTS = {
    str: "config model data best_monitor test_weights parameters_sha256",
    int: "seed parameters epochs best_epoch",
    NUMBER: "test_accuracy train_seconds wall_seconds images_per_second",
    dict: "test val",
}
_EVALUATION = {
    int: "examples",
    NUMBER: "accuracy accuracy_second_half loss",
    (*NUMBER, type(None)): "accuracy_first_half",
    list: "accuracy_interval confusion per_class",
}
_ENVIRONMENT = {dict: "versions", str: "command"}
_EPOCH = {int: "epoch", str: "phase split", NUMBER: "loss accuracy"}
# What NumPy raises if a file is no archive, or bytes in it are missing or wrong.
_BAD_ARCHIVE = (EOFError, KeyError, TypeError, ValueError, BadZipFile, zlib.error)


class Run(NamedTuple):
    """The contents of a run folder's text files."""

    config: Fields
    environment: Fields
    results: Fields
    epochs: list[Fields]
    """Lines of metrics.jsonl by ascending epoch, one per epoch and split."""
    summary: str
    """The model's layer table."""


class Predictions(NamedTuple):
    """The labels of the test images, and the logits of the network."""

    labels: Integer[np.ndarray, " n"]
    logits: dict[str, Float32[np.ndarray, "n 10"]]
    """By weights: "last" and "best"."""
    val: "Predictions | None" = None
    """Likewise for the validation images; None if an earlier version made the run."""


def read_run(run_folder: Path) -> Run:
    """Read the text files of a finished run.

    Raises:
        UserError: a file is missing, damaged or lacks a field; the message names it.
    """
    folder = RunFolder(run_folder)
    return Run(
        config=read_object(folder.config),
        environment=read_object(folder.environment, _ENVIRONMENT),
        results=_read_results(folder.results),
        epochs=_read_epochs(folder.metrics),
        summary=read_text(folder.summary),
    )


def read_object(path: Path, schema: Schema | None = None) -> Fields:
    """Read a JSON object with the fields of a schema, or raise UserError."""
    value = read_json(path)
    check_fields(value, schema or {}, path)
    return value


def read_predictions(run_folder: Path) -> Predictions:
    """Read predictions.npz.

    Raises:
        UserError: the file is missing, damaged or lacks an array.
    """
    path = RunFolder(run_folder).predictions
    try:
        with path.open("rb") as file, np.load(file) as arrays:
            val = _read_split(arrays, "val_") if "val_labels" in arrays else None
            found = _read_split(arrays)._replace(val=val)
    except FileNotFoundError as error:
        raise UserError(f"Cannot read {path}: no such file.") from error
    except _BAD_ARCHIVE as error:
        raise damaged(path, error) from error
    for part in filter(None, (found, val)):
        for weights, rows in part.logits.items():
            if rows.shape[:-1] != part.labels.shape:
                reason = f"labels are {part.labels.shape}, {weights} is {rows.shape}"
                raise damaged(path, reason)
    return found


def _read_split(arrays: Mapping[str, np.ndarray], prefix: str = "") -> Predictions:
    logits = {weights: arrays[f"{prefix}{weights}"] for weights in ("last", "best")}
    return Predictions(arrays[f"{prefix}labels"], logits)


def _read_results(path: Path) -> Fields:
    results = read_object(path, _RESULTS)
    for split in ("test", "val"):
        for weights, evaluation in results[split].items():
            check_fields(evaluation, _EVALUATION, path, f"{split}.{weights}.")
    if results["test_weights"] not in results["test"]:
        known = ", ".join(results["test"]) or "nothing"
        reason = (
            f"test_weights is {results['test_weights']!r}, but test has only {known}"
        )
        raise damaged(path, reason)
    return results


def _read_epochs(path: Path) -> list[Fields]:
    rows = {}
    for number, line in enumerate(read_text(path).splitlines(), start=1):
        row = parse_json(line, path, f"line {number}: ")
        check_fields(row, _EPOCH, path, f"line {number}: ")
        # A resumed run may repeat an epoch that the killed run had written.
        rows[row["epoch"], row["split"]] = row
    if not rows:
        raise damaged(path, "it has no lines")
    return sorted(rows.values(), key=lambda row: row["epoch"])
