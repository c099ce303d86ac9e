"""A run in training: its folder, its log, where it is, and how it is resumed."""

import contextlib
import logging
import time
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from mnist_jax import console, data, files, models, tree
from mnist_jax.config import Experiment, to_json
from mnist_jax.devices import processes
from mnist_jax.errors import UserError
from mnist_jax.models import operations
from mnist_jax.runs import checkpoint, environment
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
_RECORD = "epoch phase phase_epochs seconds feature_seconds metrics_crc32".split()


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
        metrics_crc32: checksum of metrics.jsonl.
        error: the error that ended the run, if any.
        results: the contents of results.json, once the run is tested.
    """

    state: TrainState

    def __init__(self, config: Experiment, path: Path | str, *, seeds: int = 1):
        self.config, self.folder, self.seeds = config, RunFolder(path), seeds
        self.epoch = self.phase = self.phase_epochs = 0
        self.seconds = self.feature_seconds = 0.0
        self.metrics_crc32 = 0
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
            LOGGER.info("%s is finished: nothing to do.", files.shown(self.folder.path))
            self.say_result()
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

    def describe(
        self,
        model: models.Model,
        dataset: data.Dataset,
        convolutions: operations.Choice,
        weights: object,
    ) -> bool:
        """Write the files known before training, log them, and return if all is new.

        `restore` must follow. `weights` describes the pretrained parameters as text.
        """
        config, folder = self.config, self.folder
        here = environment.describe(convolutions.name, seeds=self.seeds)
        is_new = not folder.config.exists()
        if is_new:
            files.write_json(folder.environment, here)
            files.write_text(folder.summary, model.summary())
            # Last, since the config marks the other files as complete.
            files.write_json(folder.config, to_json(config))
        else:
            environment.warn_if_changed(folder.environment, here)
        parts = {"train": dataset.train, "validate": dataset.val, "test": dataset.test}
        if config.data.test_on == "val":
            del parts["test"]
        sizes = ", ".join(f"{len(part):,} to {name}" for name, part in parts.items())
        LOGGER.info(
            f"{config.name}: {model.name} with "
            f"{tree.count_parameters(*model.shapes):,} parameters on {dataset.name} "
            f"({sizes}), seed {config.seed}, {here['device_kind']}, convolutions: "
            f"{convolutions.name}"
        )
        if convolutions.reason:
            LOGGER.info("Not using oneDNN's convolutions: %s.", convolutions.reason)
        LOGGER.info("Run folder: %s", files.shown(folder.path))
        if weights and not self.has_checkpoint():
            LOGGER.info("Of the parameters, %s.", weights)
        return is_new

    def restore(self, model: models.Model, phases: Sequence[Phase]) -> bool:
        """Load the newest checkpoint, and return whether there is one.

        Afterwards metrics.jsonl has the lines of the checkpoint's epochs alone.

        Raises:
            UserError: no checkpoint can be read, though there must have been one, or
                metrics.jsonl lacks epochs.
        """
        self._begun = time.perf_counter()
        found = self._checkpoints.restore()
        metrics, text = self.folder.metrics, ""
        if found:
            for name in _RECORD:
                setattr(self, name, found.record[name])
            self._begun -= self.seconds
            self.state = found.as_state(state.shapes(model, phases[self.phase]))
            text = self.folder.first_metrics(self.epoch)
            if self.metrics_crc32 != zlib.crc32(text.encode()):
                raise damaged(metrics, f"its first {self.epoch} epochs have changed")
        # A kill before the first checkpoint leaves the first epoch's lines at most.
        elif metrics.exists() and read_text(metrics).count("\n") > 2:
            raise UserError(
                f"{metrics} has the metrics of finished epochs, but there is no "
                f"checkpoint in {self.folder.checkpoints}. Restore it from a copy, or "
                "start again with another --workdir."
            )
        processes.barrier("restored")  # before the first process writes again
        if not self.writes:
            self.folder.check_config(self.config)  # which the first process wrote
            return found is not None
        files.write_text(metrics, text)
        self.metrics_crc32 = zlib.crc32(text.encode())
        if found:
            LOGGER.info("Resuming after epoch %d.", self.epoch)
        if self.config.log.tensorboard:
            self._events = Events(self.folder.events, self.folder.read_metrics())
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
        self.epoch, self.phase_epochs = self.epoch + 1, self.phase_epochs + 1
        self.seconds = time.perf_counter() - self._begun
        if self.writes:
            # The checkpoint last: a resumed run drops the lines of later epochs.
            lines = self.folder.append_metrics(records)
            self.metrics_crc32 = zlib.crc32(lines.encode(), self.metrics_crc32)
            record = {name: getattr(self, name) for name in _RECORD}
            self._checkpoints.save(self.epoch, current, record)
            if self._events:
                self._events.add(records)
        train, val = records
        best = "  best" if int(current.best.epoch) == self.epoch else ""
        with self.about():
            LOGGER.info(
                f"epoch {self.epoch:3d}  "
                f"loss {train['loss']:.4f}, {100 * train['accuracy']:.2f} %  "
                f"val loss {val['loss']:.4f}, {100 * val['accuracy']:.2f} %  "
                f"{train['seconds']:.1f} s{best}"
            )
            if current.early_stopping.stopped:
                rule = phase.config.early_stopping
                line = f"{rule.monitor} has not improved for {rule.patience} epochs: "
                line += "stopped."
                if rule.restore_best:
                    best = int(current.early_stopping.best.epoch)
                    line += f" The weights of epoch {best} are restored."
                LOGGER.info(line)

    def finish(self, results: dict[str, Any]) -> None:
        """Write results.json, which marks the run as tested; OSError if it cannot."""
        self.results = results
        if self._events:
            self._events.add_results(results)
        files.write_json(self.folder.results, results)

    def say_result(self) -> None:
        """Log the accuracy, and the paths of figures and report."""
        results = self.results or {}
        which = results["test_weights"]
        scores = results["test"][which]
        low, high = scores["accuracy_interval"]
        LOGGER.info(
            f"{'Test' if results['tested_on'] == 'test' else 'Validation'} accuracy "
            f"{scores['accuracy']:.4f} (95 % interval {low:.4f}-{high:.4f}, "
            f"{scores['examples']:,} images), {which} epoch's weights."
        )
        LOGGER.info("Report: %s", files.shown(self.folder.path / "report.html"))


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
