"""A run folder: where things lie in it, whose it is, and one process at a time."""

import contextlib
import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import filelock

from mnist_jax import files
from mnist_jax.config import Experiment, from_stored, to_json
from mnist_jax.errors import UserError

LOGGER = logging.getLogger(__name__)

# Fields that say where things lie or what computes them, not what the experiment is:
# they may change between the start of a run and its resumption.
LOCATION_FIELDS = ("data.dir", "data.mirrors", "convolutions", "features_megabytes")
# Likewise: fields that change results by rounding alone. A resumed run says so.
SPEED_FIELDS = ("eval_batch_size", "parallel", "steps_per_call")

# Fields of every config.json of ours, and of few that are not.
_FIELDS_OF_OURS = {"name", "seed", "data", "phases"}
# Files that file managers leave in any folder that they show.
_LEFT_BY_FILE_MANAGERS = {".DS_Store", ".directory", "Thumbs.db", "desktop.ini"}


class RunFolder:
    """The paths of one run."""

    def __init__(self, path: Path | str):
        # orbax wants absolute paths, and a later chdir must not move the run.
        self.path = Path(path).expanduser().absolute()
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
        self.report = self.path / "report.md"
        self._lock = self.path / ".lock"

    def check_config(self, config: Experiment) -> None:
        """Check that a run of this experiment may start or resume here.

        Raises:
            UserError: the folder holds files that are not a run's, or a run of another
                experiment, of which the message lists the differences.
        """
        self._check_is_ours()
        if not self.config.exists():
            return
        there = to_json(self.read_config())
        if different := differences(there, to_json(config)):
            raise UserError(
                f"{self.path} holds a run with another config:\n{different}\n"
                "Give the config that it was started with, or another --workdir."
            )

    def speed_changes(self, config: Experiment) -> str:
        """Say which `SPEED_FIELDS` differ from the run's here; empty if none does."""
        there, now = to_json(self.read_config()), to_json(config)
        return differences(
            {name: there[name] for name in SPEED_FIELDS},
            {name: now[name] for name in SPEED_FIELDS},
            but=(),
        )

    def _check_is_ours(self) -> None:
        """Reject a folder that holds files but no run."""
        if not self.path.is_dir() or self._lock.exists():
            return
        config = self._read(self.config) if self.config.exists() else None
        if isinstance(config, dict) and _FIELDS_OF_OURS <= config.keys():
            return
        names = {path.name for path in self.path.iterdir()} - _LEFT_BY_FILE_MANAGERS
        if names:
            shown = ", ".join(sorted(names)[:3]) + (", ..." if len(names) > 3 else "")
            raise UserError(
                f"{self.path} holds other files ({shown}), which a run might "
                "overwrite. Give a new or an empty folder as --workdir."
            )

    def read_config(self) -> Experiment:
        """Return the experiment of config.json.

        Raises:
            UserError: it is damaged, or a newer version wrote it.
            OSError: it is not there.
        """
        return from_stored(self._read(self.config), name=f"{self.config}")

    def read_convolutions(self) -> str | None:
        """Return what computed the convolutions of the run that lies here.

        None if there is no run, or environment.json cannot be read (which is told where
        it is compared).

        Raises:
            UserError: the run is of a version that did not say it.
        """
        try:
            environment = json.loads(self.environment.read_text())
        except (OSError, ValueError):
            return None
        if "convolutions" not in environment:
            commit = environment.get("git_commit") or "see environment.json"
            raise UserError(
                f"{self.path} holds a run of an older version ({commit}), which drew "
                "other random numbers. Finish it with that version, or give another "
                "--workdir."
            )
        return environment["convolutions"]

    def read_environment(self) -> dict[str, Any]:
        """Return environment.json.

        Raises:
            UserError: it is damaged.
            OSError: it is not there.
        """
        return self._read(self.environment)

    def has_checkpoint(self) -> bool:
        """Say whether there is an epoch to go on from."""
        return any((self.checkpoints / "last").glob("[0-9]*"))

    def read_results(self) -> dict[str, Any] | None:
        """Return results.json, or None if the run is not finished.

        Raises:
            UserError: it is damaged.
        """
        return self._read(self.results) if self.results.exists() else None

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Make the folder and keep other processes out of it.

        The lock is the operating system's: it goes with the process, however that ends.

        Raises:
            UserError: the folder cannot be made or written, or a process works in it.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            lock = filelock.FileLock(self._lock, timeout=0)
            lock.acquire()
        except filelock.Timeout:
            raise UserError(
                f"Another process is working in {self.path}. Wait for it, or give "
                "another --workdir."
            ) from None
        except (OSError, NotImplementedError) as error:
            reason = getattr(error, "strerror", None) or error
            raise UserError(
                f"Cannot write to the run folder {self.path}: {reason}. Give another "
                "--workdir."
            ) from error
        try:
            files.remove_leftovers(self.path)
            files.remove_leftovers(self.figures)
            yield
        finally:
            lock.release()

    def write_metrics(self, history: list[dict[str, Any]]) -> None:
        """Make metrics.jsonl hold exactly `history`, an object a line."""
        lines = (json.dumps(record, allow_nan=False) + "\n" for record in history)
        files.write_text(self.metrics, "".join(lines))

    def append_metrics(self, records: list[dict[str, Any]]) -> None:
        """Add an object a line to metrics.jsonl."""
        with self.metrics.open("a", encoding="utf-8") as file:
            file.writelines(
                json.dumps(record, allow_nan=False) + "\n" for record in records
            )

    def _read(self, path: Path) -> dict[str, Any]:
        try:
            return json.loads(path.read_text())
        except ValueError as error:
            raise UserError(
                f"{path} is damaged ({error}). Restore it, or give another --workdir."
            ) from error


def differences(
    there: dict[str, Any],
    now: dict[str, Any],
    *,
    but: tuple[str, ...] = LOCATION_FIELDS + SPEED_FIELDS,
) -> str:
    """Say what differs between two configs, a line a field.

    Args:
        there: of `to_json`, what lines call "there".
        now: likewise, what they call "now".
        but: fields that may differ.

    Returns:
        The lines; empty if the configs are the same.
    """
    old, new = flatten(there), flatten(now)
    return "\n".join(
        f"  {name}: {_show(old, name)} there, {_show(new, name)} now"
        for name in sorted(old.keys() | new.keys())
        if _show(old, name) != _show(new, name) and not name.startswith(but)
    )


def flatten(value: Any, name: str = "") -> dict[str, Any]:
    """Name every leaf of nested dicts and lists as the command line does: a.b[0].c."""
    if isinstance(value, dict) and value:
        items = [(f"{name}.{key}" if name else key, value[key]) for key in value]
    elif isinstance(value, list) and value:
        items = [(f"{name}[{index}]", item) for index, item in enumerate(value)]
    else:
        return {name: value}
    return {k: v for key, item in items for k, v in flatten(item, key).items()}


def _show(flat: dict[str, Any], name: str) -> str:
    return json.dumps(flat[name]) if name in flat else "nothing"
