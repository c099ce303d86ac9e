"""The run folder: its files, its lock, and how its JSON files are read."""

import contextlib
import itertools
import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import filelock

from mnist_jax import files
from mnist_jax.config import Experiment, from_stored, is_name, to_json
from mnist_jax.errors import UserError

# Fields that say where files are or how results are computed, not what the experiment
# is: they may change when a run is resumed.
INCIDENTAL_FIELDS = (
    *("data.dir", "data.mirrors", "data.images_megabytes"),
    *("convolutions", "features_megabytes"),
    *("eval_batch_size", "parallel", "steps_per_call", "log.tensorboard"),
)

Fields = dict[str, Any]
Schema = Mapping[Any, str]
"""Names of fields, separated by spaces, by their type or types."""

NUMBER = (int, float)
_RESULTS = {
    str: "kind config data tested_on test_images_sha256",
    int: "seed",
    NUMBER: "test_accuracy",
    list: "classes",
}
_NETWORK = {
    str: "model best_monitor test_weights parameters_sha256",
    int: "parameters epochs best_epoch",
    NUMBER: "train_seconds wall_seconds images_per_second",
    dict: "test val",
}
_EVALUATION = {
    int: "examples",
    NUMBER: "accuracy accuracy_second_half loss",
    (*NUMBER, type(None)): "accuracy_first_half",
    list: "accuracy_interval confusion per_class",
}
_EPOCH = {int: "epoch", str: "phase split", NUMBER: "loss accuracy"}
# Every config.json of ours has these fields; few others do.
_OUR_FIELDS = {"name", "seed", "data", "phases"}
_FILE_MANAGER_FILES = {".DS_Store", ".directory", "Thumbs.db", "desktop.ini"}


class RunFolder:
    """The paths of one run, and the files that hold JSON."""

    def __init__(self, path: Path | str):
        # Orbax wants absolute paths, and a later chdir must not move the run.
        self.path = files.expand(path).absolute()
        self.config = self.path / "config.json"
        self.environment = self.path / "environment.json"
        self.log = self.path / "log.txt"
        self.summary = self.path / "summary.txt"
        self.metrics = self.path / "metrics.jsonl"
        self.predictions = self.path / "predictions.npz"
        self.weights = self.path / "weights.safetensors"
        self.results = self.path / "results.json"
        self.checkpoints = self.path / "checkpoints"
        self.figures = self.path / "figures"
        self.events = self.path / "tensorboard"
        self.report = self.path / "report.md"
        self._lock = self.path / ".lock"

    def check_config(self, config: Experiment) -> None:
        """Check that a run of this experiment may start or resume here.

        Raises:
            UserError: the folder holds files that do not belong to a run, or a run of
                another experiment; the message lists the differences.
        """
        self._check_is_ours()
        if not self.config.exists():
            return
        there = from_stored(read_json(self.config), name=f"{self.config}")
        old, new = (
            {name: json.dumps(value) for name, value in flatten(to_json(each)).items()}
            for each in (there, config)
        )
        different = [
            f"  {name}: {old.get(name, 'nothing')} there, "
            f"{new.get(name, 'nothing')} now\n"
            for name in sorted(old.keys() | new.keys())
            if old.get(name) != new.get(name)
            and name.partition("[")[0] not in INCIDENTAL_FIELDS
        ]
        if different:
            raise UserError(
                f"{self.path} holds a run with another config:\n{''.join(different)}"
                "Use the config that the run was started with, or another --workdir."
            )

    def _check_is_ours(self) -> None:
        """Reject a folder with files in it that holds no run."""
        if not self.path.is_dir() or self._lock.exists():
            return
        config = read_json(self.config) if self.config.exists() else {}
        if _OUR_FIELDS <= config.keys():
            return
        names = {path.name for path in self.path.iterdir()} - _FILE_MANAGER_FILES
        if names:
            shown = ", ".join(sorted(names)[:3]) + (", ..." if len(names) > 3 else "")
            raise UserError(
                f"{self.path} holds other files ({shown}), which a run might "
                "overwrite. Use a new or empty folder as --workdir."
            )

    def not_a_run(self) -> str:
        """Return the message that this is not a run folder."""
        return f"{self.path} is not a run folder: it has no {self.config.name}."

    def read_results(self) -> Fields | None:
        """Return results.json, or None if the run is not finished.

        Raises:
            UserError: the file is damaged.
        """
        if not self.results.exists():
            return None
        found = read_json(self.results, _RESULTS)
        if is_network := found["kind"] == "network":
            check_fields(found, _NETWORK, self.results)
            self._check_evaluations(found)
        allowed = {
            "config": is_name(found["config"]),
            "tested_on": found["tested_on"] in ("test", "val"),
            "test_accuracy": 0 <= found["test_accuracy"] <= 1,
            "classes": all(isinstance(name, str) and name for name in found["classes"]),
            "test_weights": not is_network or found["test_weights"] in found["test"],
        }
        for name, is_allowed in allowed.items():
            if not is_allowed:
                raise damaged(self.results, f"{name} is {found[name]!r}")
        return found

    def _check_evaluations(self, results: Fields) -> None:
        size = len(results["classes"])
        for split, weights in itertools.product(("test", "val"), ("last", "best")):
            found, where = results[split].get(weights), f"{split}.{weights}: "
            check_fields(found, _EVALUATION, self.results, where)
            rows = [row for row in found["confusion"] if isinstance(row, list)]
            if [len(row) for row in (found["per_class"], *rows)] != [size] * (1 + size):
                reason = f"{where}confusion and per_class are not of {size} classes"
                raise damaged(self.results, reason)

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Create the folder and keep other processes out of it.

        The operating system releases the lock when the process ends, even by a kill.

        Raises:
            UserError: the folder cannot be written, or another process is using it.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            lock = filelock.FileLock(self._lock, timeout=0)
            lock.acquire()
        except filelock.Timeout:
            raise UserError(
                f"Another process is working in {self.path}. Wait for it, or use "
                "another --workdir."
            ) from None
        except (OSError, NotImplementedError) as error:
            reason = getattr(error, "strerror", None) or error
            raise UserError(
                f"Cannot write to the run folder {self.path}: {reason}. Use another "
                "--workdir."
            ) from error
        try:
            files.remove_leftovers(self.path)
            files.remove_leftovers(self.figures)
            yield
        finally:
            lock.release()

    def read_metrics(self) -> list[Fields]:
        """Return the objects of metrics.jsonl; UserError names file and line."""
        rows = []
        for number, line in enumerate(read_text(self.metrics).splitlines(), start=1):
            rows.append(parse_json(line, self.metrics, f"line {number}: "))
            check_fields(rows[-1], _EPOCH, self.metrics, f"line {number}: ")
        return rows

    def append_metrics(self, records: list[dict[str, Any]]) -> str:
        """Append to metrics.jsonl, one object per line; return these lines."""
        text = "".join(json.dumps(each, allow_nan=False) + "\n" for each in records)
        with self.metrics.open("a", encoding="utf-8") as file:
            file.write(text)
        return text

    def first_metrics(self, epochs: int) -> str:
        """Return the first lines of metrics.jsonl, of which an epoch has two.

        A kill may have cut off later ones. Nothing is parsed: a million lines would
        take ten seconds, and a gigabyte.
        """
        lines = read_text(self.metrics).splitlines(keepends=True)
        return "".join(lines[: 2 * epochs])


def read_text(path: Path) -> str:
    """Return the text of a file of a run, or raise UserError naming the file."""
    try:
        return path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise unreadable(path, error) from error
    except UnicodeDecodeError as error:
        raise damaged(path, error) from error


def read_json(path: Path, schema: Schema | None = None) -> Fields:
    """Read a JSON file with one object.

    Raises:
        UserError: it cannot be read, or is not an object with the fields of `schema`;
            the message names the file.
    """
    value = parse_json(read_text(path), path)
    check_fields(value, schema or {}, path)
    return value


def parse_json(text: str, path: Path, where: str = "") -> Any:
    """Parse text from a file; UserError names the file and `where` in it."""
    try:
        return json.loads(text, parse_int=_number, parse_float=_number)
    except (RecursionError, ValueError) as error:
        raise damaged(path, f"{where}{error}") from error


def _number(text: str) -> float:
    """Return a number; ValueError for one that none of our files has."""
    if not abs(float(text)) < 1e100:
        raise ValueError(f"{text[:9]}... is not below 1e100")
    return int(text) if text.lstrip("-").isdecimal() else float(text)


def check_fields(value: Any, schema: Schema, path: Path, where: str = "") -> None:
    """Raise UserError unless `value` is an object with the fields of a schema."""
    if not isinstance(value, dict):
        raise damaged(path, f"{where}expected an object, got {type(value).__name__}")
    for kind, names in schema.items():
        for name in names.split():
            if name not in value:
                raise damaged(path, f"{where}{name} is missing")
            found = value[name]
            finite = not isinstance(found, float) or math.isfinite(found)
            if not isinstance(found, kind) or isinstance(found, bool) or not finite:
                raise damaged(path, f"{where}{name} is {found!r}")


def damaged(path: Path, reason: object) -> UserError:
    """Return the error for a file of a run with unusable contents."""
    return UserError(f"{path} is damaged: {reason}. Restore it from a copy.")


def unreadable(path: Path, error: OSError) -> UserError:
    """Return the error for a file of a run that cannot be read."""
    missing = isinstance(error, FileNotFoundError)
    reason = "no such file" if missing else error.strerror or error
    return UserError(f"Cannot read {path}: {reason}.")


def flatten(value: Any, name: str = "") -> dict[str, Any]:
    """Name every leaf of nested dicts and lists as the command line does.

    Example:
        >>> flatten({"seed": 3, "phases": [{"epochs": 5}]})
        {'seed': 3, 'phases[0].epochs': 5}
    """
    if isinstance(value, dict) and value:
        items = [(f"{name}.{key}" if name else key, value[key]) for key in value]
    elif isinstance(value, list) and value:
        items = [(f"{name}[{index}]", item) for index, item in enumerate(value)]
    else:
        return {name: value}
    return {k: v for key, item in items for k, v in flatten(item, key).items()}
