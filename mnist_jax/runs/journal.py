"""Where a run stands, and how it goes on from there."""

import contextlib
import dataclasses
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import numpy as np
from jaxtyping import PRNGKeyArray

from mnist_jax import console, files
from mnist_jax.config import Experiment
from mnist_jax.devices import processes
from mnist_jax.errors import UserError
from mnist_jax.runs import events
from mnist_jax.runs.checkpoint import Checkpoints
from mnist_jax.runs.folder import RunFolder
from mnist_jax.training import state
from mnist_jax.training.loop import Keys, NonFiniteLossError, make_keys
from mnist_jax.training.phase import Phase
from mnist_jax.training.state import TrainState

LOGGER = logging.getLogger(__name__)


@dataclasses.dataclass
class Record:
    """Where a run stands: what a checkpoint says besides the arrays.

    Attributes:
        phase: index of the phase that the last epoch belongs to.
        phase_epochs: epochs of that phase that are done.
        seconds: spent on the run so far, lost work after a kill not counted.
        feature_seconds: those of them in which what phases train on was made, images or
            the features of frozen layers.
        history: what metrics.jsonl holds.
    """

    phase: int = 0
    phase_epochs: int = 0
    seconds: float = 0.0
    feature_seconds: float = 0.0
    history: list[dict[str, Any]] = dataclasses.field(default_factory=list)

    @property
    def epoch(self) -> int:
        """Epochs done through all phases."""
        return self.history[-1]["epoch"] if self.history else 0


class Journal:
    """Where a run stands, kept in its folder so that it can go on from there.

    The first process alone writes; the others have a journal without a folder.

    Args:
        config: the experiment.
        folder: of the run.
        alone: whether no other seed is trained with this one.

    Attributes:
        keys: the run's random streams.
        state: at the end of the last epoch; there is none before `begin`.
        record: of the epochs.
        error: what ended the run, if it cannot go on.
        results: what results.json holds, once it is there.
    """

    state: TrainState
    error: NonFiniteLossError | None

    def __init__(
        self,
        config: Experiment,
        folder: RunFolder | None,
        *,
        alone: bool = True,
    ):
        self.config, self._folder = config, folder
        self.record, self.error = Record(), None
        self.results: dict[str, Any] | None = None
        self._alone = alone
        self._checkpoints: Checkpoints | None = None

    @property
    def keys(self) -> Keys:
        """The run's random streams; they need a device, which may be missing."""
        return make_keys(self.config.seed)

    @property
    def folder(self) -> RunFolder:
        """The run folder, which the first process alone has."""
        assert self._folder is not None
        return self._folder

    @property
    def writes(self) -> bool:
        """Whether there is a run folder."""
        return self._folder is not None

    def about(self) -> contextlib.AbstractContextManager[None]:
        """Prefix log lines with this run's seed, and write them to its log alone."""
        if self._alone:
            return contextlib.nullcontext()
        return console.about(self.folder.log, f"Seed {self.config.seed}: ")

    def has_checkpoint(self) -> bool:
        """Return whether there is a checkpoint to resume from."""
        return self.folder.has_checkpoint()

    @contextlib.contextmanager
    def open(self) -> Iterator[None]:
        """Lock the folder, and log to it."""
        with self.folder.lock(), console.log_to(self.folder.log):
            self.folder.check_config(self.config)  # now that nobody else writes it
            self.results = self.folder.read_results()
            yield

    def begin(
        self,
        initial_state: Callable[[PRNGKeyArray], TrainState],
        shapes: Callable[[int], TrainState],
        ready: Callable[[], None],
    ) -> None:
        """Set `state` and `record` to where the run stands, the same in all processes.

        Args:
            initial_state: gives the state before the first step, for a key to draw
                parameters with.
            shapes: gives the shapes of a state in the phase of this index.
            ready: called when what is there was read.

        Raises:
            UserError: no checkpoint can be read, though there must have been one.
        """
        self._begun = time.perf_counter()
        found = None
        if self._folder:
            self._checkpoints = Checkpoints(self.folder.checkpoints)
            found = restore_or_begin(
                self.folder,
                self._checkpoints,
                lambda: initial_state(self.keys.init),
                shapes,
            )
            if self.config.log.tensorboard:
                events.write(self.folder.events, found[1].history)
            ready()
        shared = processes.share(found and dataclasses.asdict(found[1]))
        self.record = Record(**shared)
        self._begun -= self.record.seconds
        if found:
            current, _ = found
        else:
            current = jax.tree.map(
                lambda x: np.zeros(x.shape, x.dtype), shapes(self.record.phase)
            )
        self.state = processes.share_arrays(current)

    def begin_phase(self, index: int, phase: Phase) -> None:
        """Go over to a phase, unless the run stands in it already."""
        if index > self.record.phase:
            self.record.phase, self.record.phase_epochs = index, 0
            self.state = state.begin_phase(self.state, phase)

    def end_phase(self, phase: Phase) -> None:
        """Take the weights that the phase ends with, if the run came so far."""
        if not self.error:
            self.state = state.end_phase(self.state, phase)

    def fail(self, error: NonFiniteLossError) -> None:
        """End the run for an error, without disturbing others.

        Raises:
            NonFiniteLossError: there are no others.
        """
        self.error = error
        if self._alone:
            raise error
        with self.about():
            LOGGER.error("%s The other seeds go on.", error)

    def write(self, current: TrainState, records: list[dict[str, Any]]) -> None:
        """Keep the end of an epoch.

        Args:
            current: the state.
            records: of the epoch, for metrics.jsonl.

        Raises:
            UserError: it cannot be written.
        """
        self.state = current
        self.record.history += records
        self.record.phase_epochs += 1
        self.record.seconds = time.perf_counter() - self._begun
        if self._checkpoints:
            # The checkpoint first: it is what a resumed run believes.
            self._checkpoints.save(
                self.record.epoch, current, dataclasses.asdict(self.record)
            )
            self.folder.append_metrics(records)
            if self.config.log.tensorboard:
                events.append(self.folder.events, records)

    def finish(self, results: dict[str, Any]) -> None:
        """Write results.json, which marks the run as tested.

        Raises:
            OSError: it cannot be written.
        """
        if self.config.log.tensorboard:
            events.append_results(self.folder.events, self.config, results)
        files.write_json(self.folder.results, results)

    def close(self) -> None:
        """Release what the checkpoints hold."""
        if self._checkpoints:
            self._checkpoints.close()


def restore_or_begin(
    folder: RunFolder,
    checkpoints: Checkpoints,
    initial_state: Callable[[], TrainState],
    shapes: Callable[[int], TrainState],
) -> tuple[TrainState, Record]:
    """Return the newest checkpoint's state, or the initial one if there is none.

    metrics.jsonl is brought to what the checkpoint says.

    Args:
        folder: of the run.
        checkpoints: its.
        initial_state: gives the state before the first step.
        shapes: gives the shapes of a state in the phase of this index.

    Raises:
        UserError: no checkpoint can be read, though there must have been one.
    """

    def abstract_state(record: dict[str, Any]) -> TrainState:
        device = jax.sharding.SingleDeviceSharding(jax.devices()[0])
        return jax.tree.map(
            lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=device),
            shapes(record["phase"]),
        )

    restored = checkpoints.restore(abstract_state)
    if restored is None:
        if folder.metrics.exists() and folder.metrics.stat().st_size:
            raise UserError(
                f"{folder.metrics} tells of epochs, but there is no checkpoint in "
                f"{folder.checkpoints}. Restore it from a copy, or start again from "
                "scratch with another --workdir."
            )
        return initial_state(), Record()
    current, saved = restored
    record = Record(**saved)
    # Whatever a kill left there: lines of epochs that the checkpoint does not know, a
    # line broken off, or none where the kill came between the checkpoint and the line.
    folder.write_metrics(record.history)
    LOGGER.info("Going on after epoch %d.", record.epoch)
    return current, record


def read_convolutions(journals: Sequence[Journal]) -> str | None:
    """Return what computed the convolutions of the runs so far; None if none began.

    Raises:
        UserError: they differ, so that one program cannot go on with them.
    """
    found = {journal.folder.read_convolutions() for journal in journals}
    names = [name for name in found if name]
    if len(names) > 1:
        raise UserError(
            "These seeds began with different convolutions: "
            f"{', '.join(sorted(names))}. They cannot go on in one program; "
            "--notogether goes on with one after the other."
        )
    return names.pop() if names else None
