"""Where a run stands, and how it goes on from there."""

import dataclasses
import logging
from collections.abc import Callable
from typing import Any

import jax

from mnist_jax.checkpoint import Checkpoints
from mnist_jax.errors import UserError
from mnist_jax.run_folder import RunFolder
from mnist_jax.training.state import TrainState

LOGGER = logging.getLogger(__name__)


@dataclasses.dataclass
class Record:
    """Where a run stands: what a checkpoint says besides the arrays.

    Attributes:
        phase: index of the phase that the last epoch belongs to.
        phase_epochs: epochs of that phase that are done.
        seconds: spent on the run so far, lost work after a kill not counted.
        history: what metrics.jsonl holds.
    """

    phase: int = 0
    phase_epochs: int = 0
    seconds: float = 0.0
    history: list[dict[str, Any]] = dataclasses.field(default_factory=list)

    @property
    def epoch(self) -> int:
        """Epochs done through all phases."""
        return self.history[-1]["epoch"] if self.history else 0


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
        return jax.jit(lambda: initial_state(0))(), Record()
    current, saved = restored
    record = Record(**saved)
    # Whatever a kill left there: lines of epochs that the checkpoint does not know, a
    # line broken off, or none where the kill came between the checkpoint and the line.
    folder.write_metrics(record.history)
    LOGGER.info("Going on after epoch %d.", record.epoch)
    return current, record
