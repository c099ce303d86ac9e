"""A run in training: its folder, its log, where it is, and how it is resumed."""

import contextlib
import json
import logging
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from mnist_jax import console, files, models
from mnist_jax.config import Experiment
from mnist_jax.devices import processes
from mnist_jax.errors import UserError
from mnist_jax.runs import checkpoint, narration
from mnist_jax.runs.checkpoint import Checkpoints
from mnist_jax.runs.events import Events
from mnist_jax.runs.folder import RunFolder, damaged, read_json, read_text
from mnist_jax.training import state
from mnist_jax.training.keys import Keys, make_keys
from mnist_jax.training.phase import Phase
from mnist_jax.training.state import TrainState
from mnist_jax.training.trainer import NonFiniteLossError, Outcome

LOGGER = logging.getLogger(__name__)

# The attributes of a run that its checkpoints store.
_RECORD = ("epoch", "phase", "phase_epochs", "seconds", "feature_seconds")


class Run:
    """One seed of an experiment in training.

    Of several processes, each has a `Run`, and the first alone writes to its folder.

    Attributes:
        config: the experiment.
        seeds: the number of seeds that train in one program.
        folder: the paths of its files.
        state: the training state, once `restore` or the caller has set it.
        epoch: the number of epochs done, over all phases.
        phase: index of the phase of the last epoch.
        phase_epochs: epochs done in that phase.
        seconds: spent on the run, without epochs that were lost by a kill.
        feature_seconds: the part of them spent on the features of frozen layers.
        history: the contents of metrics.jsonl.
        error: the error that ended the run, if any.
        results: the contents of results.json, once the run is tested.
    """

    state: TrainState

    def __init__(self, config: Experiment, path: Path | str, *, seeds: int = 1):
        self.config, self.folder, self.seeds = config, RunFolder(path), seeds
        self.epoch = self.phase = self.phase_epochs = 0
        self.seconds = self.feature_seconds = 0.0
        self.history: list[dict[str, Any]] = []
        self.error: NonFiniteLossError | None = None
        self.results: dict[str, Any] | None = None
        self.writes = processes.is_first()

    @property
    def keys(self) -> Keys:
        """The run's random streams."""
        return make_keys(self.config.seed)

    def about(self) -> contextlib.AbstractContextManager[None]:
        """Prefix the log lines of a block with this run's seed, in its log alone."""
        if self.seeds == 1:
            return contextlib.nullcontext()
        return console.about(self.folder.log, f"Seed {self.config.seed}: ")

    def is_finished(self) -> bool:
        """Check the folder against the config, and say if the run is complete.

        Raises:
            UserError: the folder cannot be used for this run.
        """
        self.folder.check_config(self.config)
        self.results = self.folder.read_results()
        if self.results is None or not self.folder.report.exists():
            return False
        with self.about():
            LOGGER.info("%s is finished: nothing to do.", self.folder.path)
            narration.say_result(self.folder, self.results)
        return True

    def has_checkpoint(self) -> bool:
        """Return whether there is a checkpoint to resume from."""
        return checkpoint.exist(self.folder.checkpoints)

    @contextlib.contextmanager
    def open(self) -> Iterator[None]:
        """Lock the folder, log to it, and open the checkpoints, for a block."""
        with contextlib.ExitStack() as stack:
            if self.writes:
                stack.enter_context(self.folder.lock())
                stack.enter_context(console.log_to(self.folder.log))
                # Again, now that no other process can write to the folder.
                self.folder.check_config(self.config)
            self.results = self.folder.read_results()
            if self.results is None:
                self._checkpoints = Checkpoints(self.folder.checkpoints)
                stack.callback(self._checkpoints.close)
            self._events: Events | None = None
            stack.callback(lambda: self._events and self._events.close())
            yield

    def restore(self, model: models.Model, phases: Sequence[Phase]) -> bool:
        """Load the newest checkpoint, and return whether there is one.

        Afterwards metrics.jsonl has the lines of the checkpoint's epochs alone.

        Raises:
            UserError: no checkpoint can be read, though there must have been one, or
                metrics.jsonl lacks epochs.
        """
        self._begun = time.perf_counter()
        found = self._checkpoints.restore()
        metrics = self.folder.metrics
        if found:
            for name in _RECORD:
                setattr(self, name, found.record[name])
            self._begun -= self.seconds
            self.state = found.as_state(state.shapes(model, phases[self.phase]))
            self.history = _read_epochs(metrics, self.epoch)
        # A kill before the first checkpoint leaves the first epoch's lines at most.
        elif metrics.exists() and len(_read_epochs(metrics, None)) > 2:
            raise UserError(
                f"{metrics} has the metrics of finished epochs, but there is no "
                f"checkpoint in {self.folder.checkpoints}. Restore it from a copy, or "
                "start again with another --workdir."
            )
        processes.barrier("restored")  # before the first process writes again
        if not self.writes:
            self.folder.check_config(self.config)  # which the first process wrote
            return found is not None
        self.folder.write_metrics(self.history)
        if found:
            LOGGER.info("Resuming after epoch %d.", self.epoch)
        if self.config.log.tensorboard:
            self._events = Events(self.folder.events, self.history)
        return found is not None

    def begin_phase(self, index: int, phase: Phase) -> None:
        """Enter a phase, unless the run is in it already."""
        if index > self.phase:
            self.phase, self.phase_epochs = index, 0
            self.state = state.begin_phase(self.state, phase)

    def has_ended(self, phase: Phase) -> bool:
        """Return whether the run has no epochs left in its current phase."""
        return bool(
            self.error
            or self.phase_epochs >= phase.config.epochs
            or self.state.early_stopping.stopped
        )

    def end_phase(self, phase: Phase) -> None:
        """Take the weights that the phase ends with."""
        if not self.error:
            self.state = state.end_phase(self.state, phase)

    def save(self, phase: Phase, current: TrainState, outcome: Outcome) -> None:
        """Save the state and the outcome of an epoch, or end the run with its error.

        Raises:
            UserError: the files cannot be written.
            NonFiniteLossError: the outcome, unless other seeds continue.
        """
        if isinstance(outcome, NonFiniteLossError):
            self.error = outcome
            if self.seeds == 1:
                raise outcome
            with self.about():
                LOGGER.error("%s The other seeds continue.", outcome)
            return
        about = {"phase": phase.name, "time": time.time()}
        records = [about | record for record in outcome]
        self.state = current
        self.history += records
        self.epoch, self.phase_epochs = self.epoch + 1, self.phase_epochs + 1
        self.seconds = time.perf_counter() - self._begun
        if self.writes:
            # The checkpoint last: a resumed run drops the lines of later epochs.
            self.folder.append_metrics(records)
            record = {name: getattr(self, name) for name in _RECORD}
            self._checkpoints.save(self.epoch, current, record)
            if self._events:
                self._events.add(records)
        with self.about():
            LOGGER.info(narration.epoch_line(records, current))
            if current.early_stopping.stopped:
                LOGGER.info(narration.stop_line(phase, current))

    def finish(self, results: dict[str, Any]) -> None:
        """Write results.json, which marks the run as tested; OSError if it cannot."""
        self.results = results
        if self._events:
            self._events.add_results(results)
        files.write_json(self.folder.results, results)


def _read_epochs(path: Path, epochs: int | None) -> list[dict[str, Any]]:
    """Return the records of the first epochs in metrics.jsonl; None for all.

    Lines of later epochs, and a line cut off by a kill, are ignored.
    """
    records = []
    for line in read_text(path).splitlines():
        try:
            record = json.loads(line)
            later = epochs is not None and record["epoch"] > epochs
        except (ValueError, KeyError, TypeError):
            break  # written, in part, after the last checkpoint
        if later:
            break
        records.append(record)
    if epochs is not None and [(r["epoch"], r.get("split")) for r in records] != [
        (epoch, split) for epoch in range(1, epochs + 1) for split in ("train", "val")
    ]:
        raise damaged(path, f"it lacks lines of the first {epochs} epochs")
    return records


def begun_convolutions(runs: Sequence[Run]) -> str | None:
    """Return what computed the convolutions of the runs so far; None if none began.

    Raises:
        UserError: they differ, so that one program cannot resume them.
    """
    begun = [run.folder for run in runs if run.folder.config.exists()]
    stated = [read_json(folder.environment).get("convolutions") for folder in begun]
    found = {str(name) for name in stated if name}
    if len(found) > 1:
        raise UserError(
            "These seeds began with different convolutions: "
            f"{', '.join(sorted(found))}. One program cannot resume them; "
            "--notogether resumes them one after the other."
        )
    return found.pop() if found else None
