"""Where a run stands, and how it goes on from there."""

import dataclasses
import logging
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from mnist_jax.devices import processes
from mnist_jax.errors import UserError
from mnist_jax.runs.checkpoint import Checkpoints
from mnist_jax.runs.folder import RunFolder
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
    """What a run writes down as it goes, and goes on from.

    The first process alone writes; the others have a journal without a folder.

    Args:
        folder: of the run.
        ready: called when what is there was read.
    """

    def __init__(
        self, folder: RunFolder | None, ready: Callable[[], None] = lambda: None
    ):
        self._folder, self._ready = folder, ready
        self._checkpoints = Checkpoints(folder.checkpoints) if folder else None

    def begin(
        self, initial_state: Callable[[int], TrainState]
    ) -> tuple[TrainState, Record]:
        """Return where the run stands, the same in all processes.

        Args:
            initial_state: as in `restore_or_begin`.

        Raises:
            UserError: no checkpoint can be read, though there must have been one.
        """
        found = None
        if self._folder and self._checkpoints:
            found = restore_or_begin(self._folder, self._checkpoints, initial_state)
            self._ready()
        record = Record(**processes.share(found and dataclasses.asdict(found[1])))
        if found:
            current, _ = found
        else:
            shapes = jax.eval_shape(lambda: initial_state(record.phase))
            current = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), shapes)
        return processes.share_arrays(current), record

    def write(
        self, current: TrainState, record: Record, records: list[dict[str, Any]]
    ) -> None:
        """Keep the end of an epoch, of which `records` are the last.

        Raises:
            UserError: it cannot be written.
        """
        if self._folder and self._checkpoints:
            # The checkpoint first: it is what a resumed run believes.
            self._checkpoints.save(record.epoch, current, dataclasses.asdict(record))
            self._folder.append_metrics(records)

    def close(self) -> None:
        """Release what the checkpoints hold."""
        if self._checkpoints:
            self._checkpoints.close()


def restore_or_begin(
    folder: RunFolder,
    checkpoints: Checkpoints,
    initial_state: Callable[[int], TrainState],
) -> tuple[TrainState, Record]:
    """Return the newest checkpoint's state, or the initial one if there is none.

    metrics.jsonl is brought to what the checkpoint says.

    Args:
        folder: of the run.
        checkpoints: its.
        initial_state: gives the state before the first step, with the optimizer of the
            phase of this index.

    Raises:
        UserError: no checkpoint can be read, though there must have been one.
    """

    def abstract_state(record: dict[str, Any]) -> TrainState:
        device = jax.sharding.SingleDeviceSharding(jax.devices()[0])
        return jax.tree.map(
            lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=device),
            jax.eval_shape(lambda: initial_state(record["phase"])),
        )

    restored = checkpoints.restore(abstract_state)
    if restored is None:
        if folder.metrics.exists() and folder.metrics.stat().st_size:
            raise UserError(
                f"{folder.metrics} tells of epochs, but there is no checkpoint in "
                f"{folder.checkpoints}. Restore it from a copy, or start again from "
                "scratch with another --workdir."
            )
        return initial_state(0), Record()
    current, saved = restored
    record = Record(**saved)
    # Whatever a kill left there: lines of epochs that the checkpoint does not know, a
    # line broken off, or none where the kill came between the checkpoint and the line.
    folder.write_metrics(record.history)
    LOGGER.info("Going on after epoch %d.", record.epoch)
    return current, record
