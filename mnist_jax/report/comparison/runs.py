"""Finding run folders, and reading what each says of its run."""

import functools
import json
import math
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeGuard

from mnist_jax.config import upgrade
from mnist_jax.errors import UserError
from mnist_jax.runs.folder import LOCATION_FIELDS, SPEED_FIELDS, RunFolder, flatten

# Fields in which two runs of the same experiment may differ: the seed, where things
# lie, how they are computed, and what is only shown beside the result.
_NOT_THE_EXPERIMENT = (
    "seed",
    *LOCATION_FIELDS,
    *SPEED_FIELDS,
    "report_accuracy",
)
# Of a phase, likewise.
_NOT_THE_PHASE = ("reuse_features",)
# Data sources by the images that they hold, in the same order.
_IMAGES = {"tfds": "mnist"}
# Of a run folder, but with no run folders in them.
_NOT_SEARCHED = ("checkpoints", "figures")

Fields = dict[str, Any]


@dataclass(frozen=True)
class Run:
    """A finished run: what its folder's three files hold."""

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
        """The name that the config gives itself."""
        return str(self.config.get("name", "?"))

    @functools.cached_property
    def experiment(self) -> Fields:
        """The config's fields that tell one experiment from another, flat."""
        flat = flatten(upgrade(self.config))
        phases = {name.split(".")[0] for name in flat if name.startswith("phases[")}
        ignored = _NOT_THE_EXPERIMENT + tuple(
            f"{phase}.{name}" for phase in phases for name in _NOT_THE_PHASE
        )
        if flat.get("data.source") in list(_IMAGES):
            flat["data.source"] = _IMAGES[flat["data.source"]]
        return {
            name: value for name, value in flat.items() if not is_below(name, ignored)
        }

    @property
    def data(self) -> str:
        """The data set, whichever source it was read from; "" if it is not known."""
        name = str(self.results.get("data", ""))
        name = name.removesuffix(" validation images")  # in earlier versions
        return _IMAGES.get(name, name)

    @property
    def tested_on(self) -> str:
        """Which images the run was tested on: "test" or "val"."""
        return "val" if self.experiment.get("data.test_on") == "val" else "test"

    def accuracy(self, split: str, weights: str) -> float | None:
        """Return a split's accuracy with the "last" or "best" weights, if it is there.

        Args:
            split: "test" or "val".
            weights: "last" or "best".
        """
        found = self.results.get(split)
        for name in (weights, "accuracy"):
            found = found.get(name) if isinstance(found, dict) else None
        return found if is_number(found) else None

    def number(self, name: str) -> float | None:
        """Return a field of results.json, if it is there and a number."""
        value = self.results.get(name)
        return value if is_number(value) else None

    @property
    def hardware(self) -> str:
        """What it ran on, such as "CPU, 2 cores" or "2x NVIDIA H100"."""
        here = self.environment
        kind, count, cores = (
            here.get(name) for name in ("device_kind", "device_count", "cores")
        )
        if here.get("device") == "cpu":
            return f"CPU, {cores} cores" if cores else "CPU"
        many = f"{count}x " if is_number(count) and count > 1 else ""
        return f"{many}{kind}" if kind else ""

    def same_result(self, other: "Run") -> bool:
        """Return whether two runs of one config and seed ended with the same bits."""
        names = ("parameters_sha256", "test_accuracy")
        return all(self.results.get(n) == other.results.get(n) for n in names)


def find(folder: Path) -> tuple[list[Path], list[Path]]:
    """Find the run folders in or below a folder, in a natural order.

    Returns:
        Those of finished runs, and those of others.

    Raises:
        UserError: the folder is not there or holds no run.
    """
    if not folder.is_dir():
        what = "is not a folder" if folder.exists() else "is not there"
        raise UserError(f"{folder} {what}. Give run folders, or folders above them.")
    found = list(_run_folders(folder))
    if not found:
        raise UserError(
            f"No run in {folder}: it holds no results.json, at any depth. Give run "
            "folders, or folders above them."
        )
    finished = [path for path in found if RunFolder(path).results.exists()]
    return finished, [path for path in found if path not in finished]


def _run_folders(folder: Path) -> Iterator[Path]:
    for path, below, names in os.walk(folder):
        below[:] = sorted(
            (name for name in below if not _is_skipped(name)), key=_natural
        )
        if "results.json" in names or {"config.json", "environment.json"} & set(names):
            yield Path(path)


def _is_skipped(name: str) -> bool:
    return name in _NOT_SEARCHED or name.startswith(".")


def _natural(name: str) -> list[tuple[int, str]]:
    """Return a key that sorts seed2 before seed10."""
    parts = re.findall(r"[0-9]+|[^0-9]+", name)
    return [
        (int(part), "") if part[0] in "0123456789" else (-1, part) for part in parts
    ]


def read(folder: Path) -> Run:
    """Read the three files of a finished run.

    Raises:
        UserError: one is missing or damaged; the message names it.
    """
    paths = RunFolder(folder)
    run = Run(
        folder=folder,
        config=_read_object(paths.config),
        environment=_read_object(paths.environment),
        results=_read_object(paths.results),
    )
    for name, good, expected in (
        ("seed", _is_whole, "a whole number"),
        ("test_accuracy", _is_share, "a number from 0 to 1"),
        ("test_weights", lambda value: value in ("last", "best"), '"last" or "best"'),
    ):
        if not good(run.results.get(name)):
            raise _damaged(
                paths.results, f"{name} is {run.results.get(name)!r}, not {expected}"
            )
    return run


def _read_object(path: Path) -> Fields:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        reason = "no such file" if isinstance(error, FileNotFoundError) else error
        raise UserError(
            f"Cannot read {path}: {reason}. Restore it, or leave its folder out."
        ) from error
    except ValueError as error:
        raise _damaged(path, str(error)) from error
    if not isinstance(value, dict):
        raise _damaged(path, f"expected an object, got {type(value).__name__}")
    return value


def _damaged(path: Path, reason: str) -> UserError:
    return UserError(
        f"{path} is damaged: {reason}. Restore it, or leave its folder out."
    )


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_share(value: Any) -> bool:
    return is_number(value) and 0 <= value <= 1


def is_number(value: Any) -> TypeGuard[float]:
    """Return whether a value from JSON is a number, and finite."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return math.isfinite(value)


def is_below(name: str, fields: Sequence[str]) -> bool:
    """Return whether a dotted name is one of some fields, or within one."""
    return any(
        name == field or name.startswith((f"{field}.", f"{field}[")) for field in fields
    )
