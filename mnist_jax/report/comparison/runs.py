"""Find run folders, and read what each says about its run."""

import functools
import math
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeGuard

from mnist_jax.config import upgrade
from mnist_jax.errors import UserError
from mnist_jax.report.inputs import Fields, read_object
from mnist_jax.runs.folder import (
    LOCATION_FIELDS,
    NOTED_FIELDS,
    NUMBER,
    RunFolder,
    damaged,
    flatten,
)

# Fields in which runs of one experiment may differ: the seed, where files are, how
# things are computed, and what is only shown beside the result.
_NOT_THE_EXPERIMENT = (
    "seed",
    *LOCATION_FIELDS,
    *NOTED_FIELDS,
    "report_accuracy",
)
_REUSE_FEATURES = re.compile(r"phases\[\d+\]\.reuse_features")
# Data sources that hold the images of another one, in the same order.
_SAME_IMAGES = {"tfds": "mnist"}


@dataclass(frozen=True)
class Run:
    """A finished run: the contents of its three JSON files."""

    folder: Path
    config: Fields
    environment: Fields
    results: Fields

    @property
    def seed(self) -> int:
        """The run's seed."""
        return self.results["seed"]

    @property
    def name(self) -> str:
        """The name of the config."""
        return str(self.config.get("name", "?"))

    @functools.cached_property
    def experiment(self) -> Fields:
        """The fields of the config that identify the experiment, flat."""
        flat = flatten(upgrade(self.config))
        source = flat.get("data.source")
        if source in list(_SAME_IMAGES):
            flat["data.source"] = _SAME_IMAGES[source]
        return {
            name: value
            for name, value in flat.items()
            if not is_within(name, _NOT_THE_EXPERIMENT)
            and not _REUSE_FEATURES.fullmatch(name)
        }

    @property
    def data(self) -> str:
        """The data set, independent of its source; "" if unknown."""
        name = str(self.results.get("data", ""))
        name = name.removesuffix(" validation images")  # in earlier versions
        return _SAME_IMAGES.get(name, name)

    @property
    def tested_on(self) -> str:
        """The images that the run was tested on: "test" or "val"."""
        return "val" if self.experiment.get("data.test_on") == "val" else "test"

    def accuracy(self, split: str, weights: str) -> float | None:
        """Return the accuracy on "test" or "val" with the "last" or "best" weights."""
        found = self.results.get(split)
        for name in (weights, "accuracy"):
            found = found.get(name) if isinstance(found, dict) else None
        return found if is_number(found) else None

    def number(self, name: str) -> float | None:
        """Return a field of results.json, or None if it is not a number."""
        value = self.results.get(name)
        return value if is_number(value) else None

    @property
    def hardware(self) -> str:
        """The hardware, such as "CPU, 2 cores" or "2x NVIDIA H100".

        Followed by the type that it computed in, if that is not float32: it matters for
        speed as the device does.
        """
        dtype = self.config.get("dtype", "float32")
        suffix = "" if dtype == "float32" else f", {dtype}"
        kind, count, cores = map(
            self.environment.get, ("device_kind", "device_count", "cores")
        )
        if self.environment.get("device") == "cpu":
            return (f"CPU, {cores} cores" if cores else "CPU") + suffix
        many = f"{count}x " if is_number(count) and count > 1 else ""
        return f"{many}{kind}{suffix}" if kind else ""

    def same_result(self, other: "Run") -> bool:
        """Return whether runs of one config and seed ended with identical weights."""
        names = ("parameters_sha256", "test_accuracy")
        return all(self.results.get(n) == other.results.get(n) for n in names)


def find(folder: Path) -> tuple[list[Path], list[Path]]:
    """Find the folders of finished and of unfinished runs in or below a folder.

    Raises:
        UserError: the folder does not exist or holds no run.
    """
    if not folder.is_dir():
        what = "is not a folder" if folder.exists() else "does not exist"
        raise UserError(f"{folder} {what}. Name run folders, or folders above them.")
    found = list(_run_folders(folder))
    if not found:
        raise UserError(
            f"No run in {folder}: it holds no results.json, at any depth. Name run "
            "folders, or folders above them."
        )
    finished = [path for path in found if RunFolder(path).results.exists()]
    return finished, [path for path in found if path not in finished]


def _run_folders(folder: Path) -> Iterator[Path]:
    for path, below, names in os.walk(folder):
        below[:] = sorted(
            (n for n in below if n not in ("checkpoints", "figures") and n[0] != "."),
            key=_natural,
        )
        if {"results.json", "config.json", "environment.json"} & set(names):
            yield Path(path)


def _natural(name: str) -> list[tuple[int, str]]:
    """Return a key that sorts seed2 before seed10."""
    parts = re.findall(r"[0-9]+|[^0-9]+", name)
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in parts]


def read(folder: Path) -> Run:
    """Read the three files of a finished run.

    Raises:
        UserError: one is missing or damaged; the message names it.
    """
    paths = RunFolder(folder)
    results = read_object(paths.results, {int: "seed", NUMBER: "test_accuracy"})
    accuracy, weights = results["test_accuracy"], results.get("test_weights")
    if not 0 <= accuracy <= 1:
        raise damaged(paths.results, f"test_accuracy is {accuracy}, not in 0..1")
    if weights not in ("last", "best"):
        reason = f'test_weights is {weights!r}, not "last" or "best"'
        raise damaged(paths.results, reason)
    config, environment = read_object(paths.config), read_object(paths.environment)
    return Run(folder, config, environment, results)


def is_number(value: Any) -> TypeGuard[float]:
    """Return whether a value from JSON is a finite number."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return math.isfinite(value)


def is_within(name: str, fields: Sequence[str]) -> bool:
    """Return whether a dotted name is one of some fields, or inside one."""
    return any(
        name == field or name.startswith((f"{field}.", f"{field}[")) for field in fields
    )
