"""What a report is made from: the files that training left in the run folder."""

import json
import math
import zipfile
import zlib
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float32, Integer

from mnist_jax.errors import UserError

# What the report quotes. A file may hold more.
_RESULTS = {
    "config": str,
    "model": str,
    "data": str,
    "seed": int,
    "parameters": int,
    "epochs": int,
    "best_epoch": int,
    "best_monitor": str,
    "test_weights": str,
    "test": dict,
    "val": dict,
    "test_accuracy": (int, float),
    "train_seconds": (int, float),
    "wall_seconds": (int, float),
    "images_per_second": (int, float),
    "parameters_sha256": str,
}
_EVALUATION = {
    "examples": int,
    "accuracy": (int, float),
    "accuracy_interval": list,
    "accuracy_first_half": (int, float, type(None)),
    "accuracy_second_half": (int, float),
    "loss": (int, float),
    "confusion": list,
    "per_class": list,
}
_ENVIRONMENT = {"versions": dict, "command": str}
_EPOCH = {
    "epoch": int,
    "phase": str,
    "split": str,
    "loss": (int, float),
    "accuracy": (int, float),
}

Fields = dict[str, Any]
# What NumPy raises where bytes are missing or wrong, or the file is no archive.
_BAD_ARRAYS = (
    EOFError,
    KeyError,
    TypeError,
    ValueError,
    zipfile.BadZipFile,
    zlib.error,
)


class Run(NamedTuple):
    """What a run folder's text files hold."""

    config: Fields
    environment: Fields
    results: Fields
    epochs: list[Fields]
    """Lines of metrics.jsonl, ascending in epoch; one for an epoch and split."""
    summary: str
    """The model's layer table."""


class Predictions(NamedTuple):
    """The test set's labels and what two sets of weights say to its images."""

    labels: Integer[np.ndarray, " n"]
    logits: dict[str, Float32[np.ndarray, "n 10"]]
    """By weights: "last" and "best"."""


def read_run(run_folder: Path) -> Run:
    """Read the text files of a finished run.

    Raises:
        UserError: A file is missing, damaged or lacks a field; the message names it.
    """
    results = _read_fields(run_folder / "results.json", _RESULTS)
    _check_evaluations(run_folder / "results.json", results)
    return Run(
        config=_read_fields(run_folder / "config.json", {}),
        environment=_read_fields(run_folder / "environment.json", _ENVIRONMENT),
        results=results,
        epochs=_read_epochs(run_folder / "metrics.jsonl"),
        summary=_read_text(run_folder / "summary.txt"),
    )


def read_predictions(run_folder: Path) -> Predictions:
    """Read predictions.npz.

    Raises:
        UserError: The file is missing, damaged or lacks an array.
    """
    path = run_folder / "predictions.npz"
    try:
        with path.open("rb") as file, np.load(file) as arrays:
            labels = arrays["labels"]
            logits = {weights: arrays[weights] for weights in ("last", "best")}
    except OSError as error:
        raise _unreadable(path, error) from error
    except _BAD_ARRAYS as error:
        raise _damaged(path, str(error)) from error
    for weights, rows in logits.items():
        if rows.shape[:-1] != labels.shape:
            raise _damaged(
                path, f"labels are {labels.shape}, {weights} is {rows.shape}"
            )
    return Predictions(labels, logits)


def _check_evaluations(path: Path, results: Fields) -> None:
    """Raise UserError unless each set of weights comes with what the report quotes."""
    for split in ("test", "val"):
        for weights, evaluation in results[split].items():
            _check(path, evaluation, _EVALUATION, f"{split}.{weights}.")
    if results["test_weights"] not in results["test"]:
        known = ", ".join(results["test"]) or "nothing"
        raise _damaged(
            path,
            f"test_weights is {results['test_weights']!r}, but test has only {known}",
        )


def _read_epochs(path: Path) -> list[Fields]:
    by_epoch_and_split = {}
    for number, line in enumerate(_read_text(path).splitlines(), start=1):
        row = _parse(path, line, f"line {number}: ")
        _check(path, row, _EPOCH, f"line {number}: ")
        # A resumed run may write an epoch again that the killed one had written.
        by_epoch_and_split[row["epoch"], row["split"]] = row
    if not by_epoch_and_split:
        raise _damaged(path, "it has no lines")
    return sorted(by_epoch_and_split.values(), key=lambda row: row["epoch"])


def _read_fields(path: Path, fields: dict[str, Any]) -> Fields:
    value = _parse(path, _read_text(path))
    _check(path, value, fields)
    return value


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise _unreadable(path, error) from error
    except UnicodeDecodeError as error:
        raise _damaged(path, str(error)) from error


def _parse(path: Path, text: str, where: str = "") -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise _damaged(path, f"{where}{error}") from error


def _check(path: Path, value: Any, fields: dict[str, Any], where: str = "") -> None:
    """Raise UserError unless `value` is a dict that has these fields of these types."""
    if not isinstance(value, dict):
        raise _damaged(path, f"{where}expected an object, got {type(value).__name__}")
    for name, kind in fields.items():
        if name not in value:
            raise _damaged(path, f"{where}{name} is missing")
        found = value[name]
        finite = not isinstance(found, float) or math.isfinite(found)
        if not isinstance(found, kind) or isinstance(found, bool) or not finite:
            raise _damaged(path, f"{where}{name} is {found!r}")


def _unreadable(path: Path, error: OSError) -> UserError:
    reason = "no such file" if isinstance(error, FileNotFoundError) else error
    return UserError(
        f"cannot read {path}: {reason}. A report needs the folder of a finished run."
    )


def _damaged(path: Path, reason: str) -> UserError:
    return UserError(
        f"{path} is damaged: {reason}. Repeat the run, or restore the file."
    )
