"""The record of a finished run: the text files of its folder, checked."""

import dataclasses
import functools
from pathlib import Path

from mnist_jax.errors import UserError
from mnist_jax.runs.folder import (
    Fields,
    RunFolder,
    damaged,
    read_json,
    read_text,
    unreadable,
)

_ENVIRONMENT = {dict: "versions", str: "command"}


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
    tested_on: str
    """The images that `results` are about: "test" or "val"."""
    images: str
    """The checksum of these images."""

    @functools.cached_property
    def epochs(self) -> list[Fields]:
        """Lines of metrics.jsonl by ascending epoch, one for each epoch and split.

        Raises:
            UserError: the file is missing or damaged; the message names the line.
        """
        folder = RunFolder(self.folder)
        # A resumed run may repeat an epoch that the killed run had written.
        rows = {(row["epoch"], row["split"]): row for row in folder.read_metrics()}
        if not rows:
            raise damaged(folder.metrics, "it has no lines")
        return sorted(rows.values(), key=lambda row: row["epoch"])

    @functools.cached_property
    def summary(self) -> str:
        """The table of layers, or UserError if summary.txt cannot be read."""
        return read_text(RunFolder(self.folder).summary)

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
            noun = "core" if cores == 1 else "cores"
            found = f"CPU, {cores} {noun}" if cores else "CPU"
        else:
            found = (f"{count}x {kind}" if count != 1 else f"{kind}") if kind else ""
        dtype = self.config.get("dtype", "float32")
        return f"{found}, {dtype}" if found and dtype != "float32" else found

    def accuracy(self, split: str, weights: str) -> float | None:
        """Return the accuracy on "test" or "val" with the "last" or "best" weights."""
        found = self.results.get(split, {}).get(weights)
        return found["accuracy"] if found else None


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
    config, results = read_json(paths.config), paths.read_results()
    environment = read_json(paths.environment, _ENVIRONMENT if complete else {})
    if results is None:
        raise unreadable(paths.results, FileNotFoundError())
    record = Record(
        *(folder, config, environment, results),
        name=results["config"],
        seed=results["seed"],
        kind=results["kind"],
        model=results.get("model") or results["kind"],
        classes=tuple(results["classes"]),
        tested_on=results["tested_on"],
        images=results["test_images_sha256"],
    )
    if complete and record.kind != "network":
        raise UserError(
            f"{paths.results} is of a run of the kind {record.kind!r}, and a report is "
            "about a network. Use mnist-jax evaluate or compare."
        )
    if complete:
        _ = record.epochs, record.summary
    return record
