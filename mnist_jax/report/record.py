"""Read and check the record of a finished run: the text files of its folder."""

import dataclasses
import functools
import itertools
import math
from pathlib import Path
from typing import Any, Literal, TypeGuard

from mnist_jax.errors import UserError
from mnist_jax.runs.folder import (
    NUMBER,
    Fields,
    RunFolder,
    check_fields,
    damaged,
    parse_json,
    read_json,
    read_text,
)

# A file may have more fields.
_RESULTS = {str: "config data", int: "seed", NUMBER: "test_accuracy"}
_NETWORK = {
    str: "model best_monitor parameters_sha256",
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
_ENVIRONMENT = {dict: "versions", str: "command"}
_EPOCH = {int: "epoch", str: "phase split", NUMBER: "loss accuracy"}
# Earlier versions had no other classes, and did not name them.
_TEN_DIGITS = tuple("0123456789")


@dataclasses.dataclass(frozen=True)
class Record:
    """The text files of a finished run; `epochs` and `summary` are read when needed."""

    folder: Path
    config: Fields
    environment: Fields
    results: Fields
    name: str
    """Of the config."""
    seed: int
    kind: str
    """What predicts: "network", or another kind of predictor."""
    model: str
    """The name of the architecture, or the kind of another predictor."""
    classes: tuple[str, ...]
    """The class of each logit."""
    tested_on: Literal["test", "val"]
    """The images that `results` are about."""

    @functools.cached_property
    def epochs(self) -> list[Fields]:
        """Lines of metrics.jsonl by ascending epoch, one for each epoch and split.

        Raises:
            UserError: the file is missing or damaged; the message names the line.
        """
        path = RunFolder(self.folder).metrics
        rows = {}
        for number, line in enumerate(read_text(path).splitlines(), start=1):
            row = parse_json(line, path, f"line {number}: ")
            check_fields(row, _EPOCH, path, f"line {number}: ")
            # A resumed run may repeat an epoch that the killed run had written.
            rows[row["epoch"], row["split"]] = row
        if not rows:
            raise damaged(path, "it has no lines")
        return sorted(rows.values(), key=lambda row: row["epoch"])

    @functools.cached_property
    def summary(self) -> str:
        """The table of layers, or UserError if summary.txt cannot be read."""
        return read_text(RunFolder(self.folder).summary)

    @property
    def images(self) -> str:
        """Identifies the images that the run was tested on.

        Earlier versions recorded no checksum: their runs have the name of the data.
        """
        fields = self.config.get("data", {})
        split = [fields.get("val_size"), fields.get("split_seed")]
        stated = [self.results["data"], *(split if self.tested_on == "val" else [])]
        return self.results.get("test_images_sha256") or " ".join(map(str, stated))

    @property
    def hardware(self) -> str:
        """The hardware, such as "CPU, 2 cores" or "2x NVIDIA H100"; "" if unknown.

        It ends with the type of the computation if that is not float32, which matters
        as much for speed as the device.
        """
        kind, count, cores = map(
            self.environment.get, ("device_kind", "device_count", "cores")
        )
        if self.environment.get("device") == "cpu":
            found = f"CPU, {cores} cores" if cores else "CPU"
        else:
            many = is_number(count) and count > 1
            found = (f"{count}x {kind}" if many else f"{kind}") if kind else ""
        dtype = self.config.get("dtype", "float32")
        return f"{found}, {dtype}" if found and dtype != "float32" else found

    def accuracy(self, split: str, weights: str) -> float | None:
        """Return the accuracy on "test" or "val" with the "last" or "best" weights."""
        found = self.results.get(split, {}).get(weights)
        return found["accuracy"] if isinstance(found, dict) else None

    def number(self, name: str) -> float | None:
        """Return a field of results.json, or None if it is not a number."""
        value = self.results.get(name)
        return value if is_number(value) else None


def read(folder: Path, *, complete: bool = False) -> Record:
    """Read the three JSON files of a finished run.

    Args:
        folder: the run folder.
        complete: whether to check, and read, everything that a report quotes of a
            network, and not only what identifies a run and its accuracy.

    Raises:
        UserError: a file is missing, damaged or lacks a field; the message names it.
    """
    paths = RunFolder(folder)
    config, results = read_json(paths.config), read_json(paths.results, _RESULTS)
    environment = read_json(paths.environment, _ENVIRONMENT if complete else {})
    kind, classes = results.get("kind", "network"), results.get("classes", _TEN_DIGITS)
    if reason := _wrong(results, kind, classes):
        raise damaged(paths.results, reason)
    record = Record(
        *(folder, config, environment, results),
        name=results["config"],
        seed=results["seed"],
        kind=kind,
        model=results.get("model") or kind,
        classes=tuple(classes),
        tested_on="val" if results.get("tested_on") == "val" else "test",
    )
    if complete:
        _check_network(record, paths.results)
        _ = record.epochs, record.summary
    return record


def is_number(value: Any) -> TypeGuard[float]:
    """Return whether a value from JSON is a finite number."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return math.isfinite(value)


def _wrong(results: Fields, kind: str, classes: Any) -> str:
    """Return why the values of results.json cannot be right; "" if they can."""
    accuracy, weights = results["test_accuracy"], results.get("test_weights")
    if not 0 <= accuracy <= 1:
        return f"test_accuracy is {accuracy}, not in 0..1"
    if kind == "network" and weights not in ("last", "best"):
        return f'test_weights is {weights!r}, not "last" or "best"'
    names = classes if isinstance(classes, list | tuple) else []
    if not names or not all(isinstance(name, str) and name for name in names):
        return f"classes is {classes!r}, not a list of names"
    return ""


def _check_network(record: Record, path: Path) -> None:
    """Check that results.json has everything that the report of a network quotes."""
    results, size = record.results, len(record.classes)
    if record.kind != "network":
        raise UserError(
            f"{path} is of a run of the kind {record.kind!r}, and a report is about a "
            "network. Use mnist-jax evaluate or compare."
        )
    check_fields(results, _NETWORK, path)
    for split, weights in itertools.product(("test", "val"), ("last", "best")):
        found, where = results[split].get(weights), f"{split}.{weights}: "
        check_fields(found, _EVALUATION, path, where)
        rows = [row for row in found["confusion"] if isinstance(row, list)]
        if [len(row) for row in (found["per_class"], *rows)] != [size] * (1 + size):
            raise damaged(
                path, f"{where}confusion and per_class are not of {size} classes"
            )
