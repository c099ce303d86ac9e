"""Checkpoints: the last two epochs and the best one. The only file that knows orbax.

    checkpoints/last/<epoch>/   the whole training state, and a record: a JSON object of
                                what the loop must know to go on (the history, for one)
    checkpoints/best/<epoch>/   params and batch_stats of the best epoch so far

A state holds several copies of the weights: the last ones, the best ones, those that
early stopping would restore, their moving average. Frozen parameters are the same in
all, so arrays that are equal to the bit are saved once, and the record says which leaf
has which array.

Two managers, since orbax's `max_to_keep` with `best_fn` would drop the newest. A save
is written beside and renamed, so a kill leaves the ones before. Each carries a SHA-256
of its numbers, since a flipped bit in an array would otherwise be trained on without a
word.
"""

import contextlib
import errno
import json
import logging
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
from absl import logging as absl_logging

from mnist_jax import tree
from mnist_jax.errors import UserError
from mnist_jax.training.state import TrainState
from mnist_jax.typing import Tree

LOGGER = logging.getLogger(__name__)
# The record's entry that names the saved array of each leaf of the state.
_PLACES = "arrays"


class CheckpointError(UserError):
    """A checkpoint cannot be written, or none of those there can be read."""


class Checkpoints:
    """The checkpoints of one run.

    Args:
        folder: the run's `checkpoints/`; made if it is not there.

    Raises:
        CheckpointError: the folder cannot be made or read.
    """

    def __init__(self, folder: Path):
        self._folder = folder
        try:
            self._last = _manager(folder / "last", keep=2)
            self._best = _manager(folder / "best", keep=1)
        except Exception as error:
            raise CheckpointError(
                f"Cannot open the checkpoints in {folder}: {_reason(error)}."
            ) from error

    def close(self) -> None:
        """Release what orbax holds."""
        self._last.close()
        self._best.close()

    def save(self, epoch: int, state: TrainState, record: dict[str, Any]) -> None:
        """Save the end of `epoch` (from 1), and its weights if they are the best.

        Raises:
            CheckpointError: it cannot be written, on a full disk for example. The
                checkpoints before it are untouched.
        """
        state = jax.device_get(state)
        arrays, places = _deduplicate(jax.tree.leaves(state))
        record = {**record, "sha256": tree.digest(state), _PLACES: places}
        with self._naming_errors(epoch):
            self._check_room(arrays, state.best)
            self._last.save(
                epoch,
                args=ocp.args.Composite(
                    state=ocp.args.StandardSave(arrays),
                    record=ocp.args.JsonSave(record),
                ),
            )
            self._sync_best(state)

    def restore(
        self, abstract_state: Callable[[dict[str, Any]], TrainState]
    ) -> tuple[TrainState, dict[str, Any]] | None:
        """Load the newest checkpoint that is whole; None if none was ever saved.

        One that is damaged is moved aside, to `checkpoints/damaged/`, with a warning.

        Args:
            abstract_state: gives the shapes of the state for a record.

        Raises:
            CheckpointError: there are checkpoints, but none can be read, or the best
                epoch's is missing and cannot be written.
        """
        found = _numbered(self._folder / "last")
        for epoch in sorted(found, reverse=True):
            try:
                state, record = self._read(epoch, abstract_state)
            except Exception as error:
                LOGGER.warning(
                    "The checkpoint of epoch %d is damaged (%s). It is moved to %s; "
                    "the one before it is tried.",
                    epoch,
                    _reason(error),
                    self._move_aside(epoch),
                )
                continue
            with self._naming_errors(epoch):
                self._sync_best(state)
            return state, record
        if found or (self._folder / "damaged").exists():
            raise CheckpointError(
                f"None of the checkpoints in {self._folder} can be read. Restore them "
                "from a copy, or start again from scratch with another --workdir."
            )
        return None

    @contextlib.contextmanager
    def _naming_errors(self, epoch: int) -> Iterator[None]:
        """Turn any error while `epoch` is written into a CheckpointError."""
        try:
            with _quiet():
                yield
        except Exception as error:
            raise CheckpointError(
                f"Cannot write the checkpoint of epoch {epoch} to {self._folder}: "
                f"{_reason(error)}. What was saved before is untouched: make room "
                "and give the same command again to go on from there."
            ) from error

    def _check_room(self, *saved: Tree) -> None:
        """Raise OSError if the disk is too full for what is to be saved."""
        # With something for the files around the numbers.
        needed = sum(leaf.nbytes for leaf in jax.tree.leaves(saved)) + 2**18
        free = shutil.disk_usage(self._folder).free
        if free < needed:
            raise OSError(
                errno.ENOSPC,
                f"No space left on device ({free / 1e6:.1f} MB free, "
                f"{needed / 1e6:.1f} MB needed)",
            )

    def _read(
        self, epoch: int, abstract_state: Callable[[dict[str, Any]], TrainState]
    ) -> tuple[TrainState, dict[str, Any]]:
        record = self._last.restore(
            epoch, args=ocp.args.Composite(record=ocp.args.JsonRestore())
        )["record"]
        layout, places = abstract_state(record), record.pop(_PLACES, None)
        leaves, structure = jax.tree.flatten(layout)
        if places is not None:  # older versions saved the state as it is
            layout = dict(zip(map(str, places), leaves, strict=True))
        restored = self._last.restore(
            epoch, args=ocp.args.Composite(state=ocp.args.StandardRestore(layout))
        )["state"]
        if places is not None:
            # A training step overwrites buffers: no two leaves may share one.
            leaves = [jnp.copy(restored[str(place)]) for place in places]
            restored = jax.tree.unflatten(structure, leaves)
        if tree.digest(restored) != record.pop("sha256"):
            raise ValueError(
                "its numbers do not have the SHA-256 that was saved with them"
            )
        return restored, record

    def _sync_best(self, state: TrainState) -> None:
        """Make checkpoints/best hold the state's best epoch.

        They can differ after a kill between the two saves, or when a damaged last
        checkpoint sends the run back an epoch.
        """
        epoch = int(state.best.epoch)
        for newer in self._best.all_steps():
            if newer > epoch:
                self._best.delete(newer)
        if epoch > 0 and self._best.latest_step() != epoch:
            weights = {
                "params": state.best.params,
                "batch_stats": state.best.batch_stats,
            }
            self._best.save(
                epoch,
                args=ocp.args.Composite(
                    state=ocp.args.StandardSave(weights),
                    record=ocp.args.JsonSave({"sha256": tree.digest(weights)}),
                ),
            )

    def _move_aside(self, epoch: int) -> Path:
        folder = self._folder / "damaged"
        folder.mkdir(exist_ok=True)
        target = folder / str(epoch)
        for attempt in range(1, 1000):
            if not target.exists():
                break
            target = folder / f"{epoch}-{attempt}"
        (self._folder / "last" / str(epoch)).rename(target)
        self._last.reload()
        return target


def read_best(folder: Path) -> tuple[Tree, Tree]:
    """Return `(params, batch_stats)` of the best epoch of a run, changing nothing.

    Args:
        folder: the run's `checkpoints/`.

    Raises:
        CheckpointError: there is none, or it is damaged.
    """
    best = folder.absolute() / "best"  # orbax wants no relative path
    epochs = _numbered(best) if best.is_dir() else []
    if not epochs:
        raise CheckpointError(f"{best} has no checkpoint.")
    newest = best / str(max(epochs))
    try:
        with _quiet(), ocp.StandardCheckpointer() as checkpointer:
            saved = checkpointer.restore(newest / "state")
        record = json.loads((newest / "record" / "metadata").read_text())
        if tree.digest(saved) != record["sha256"]:
            raise ValueError(
                "its numbers do not have the SHA-256 that was saved with them"
            )
    except Exception as error:
        raise CheckpointError(f"{best} is damaged: {_reason(error)}.") from error
    return saved["params"], saved["batch_stats"]


def _deduplicate(leaves: list[np.ndarray]) -> tuple[dict[str, np.ndarray], list[int]]:
    """Return each distinct array once, and for each leaf the number of its array.

    Arrays are distinct if they differ in dtype, shape or any bit. The number of one, as
    text its name, is the position of the first leaf that has it.
    """
    arrays: dict[str, np.ndarray] = {}
    known: dict[str, int] = {}
    places = []
    for position, leaf in enumerate(leaves):
        place = known.setdefault(tree.digest(leaf), position)
        arrays.setdefault(str(place), leaf)
        places.append(place)
    return arrays, places


def _manager(folder: Path, *, keep: int) -> ocp.CheckpointManager:
    folder.mkdir(parents=True, exist_ok=True)
    return ocp.CheckpointManager(
        folder,
        options=ocp.CheckpointManagerOptions(
            max_to_keep=keep,
            create=False,  # which would wait for other processes
            # What a kill in the middle of a save leaves behind.
            cleanup_tmp_directories=True,
            # Epochs take seconds and these saves milliseconds: not worth a thread.
            enable_async_checkpointing=False,
            # The others do not wait for the one that writes.
            multiprocessing_options=ocp.options.MultiprocessingOptions(
                primary_host=0,
                active_processes={0},
                barrier_sync_key_prefix=folder.name,
            ),
        ),
    )


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep orbax from printing, with tracebacks of its threads, what it also raises."""
    verbosity = absl_logging.get_verbosity()
    hooks = sys.excepthook, sys.unraisablehook
    absl_logging.set_verbosity(absl_logging.FATAL)
    sys.excepthook = sys.unraisablehook = lambda *_: None
    try:
        yield
    except Exception:
        time.sleep(0.5)  # Threads that are still writing fail a moment later.
        raise
    finally:
        absl_logging.set_verbosity(verbosity)
        sys.excepthook, sys.unraisablehook = hooks


def _numbered(folder: Path) -> list[int]:
    """Return the epochs that have a folder here, whether orbax likes it or not."""
    return [int(path.name) for path in folder.iterdir() if path.name.isdecimal()]


def _reason(error: Exception) -> str:
    """Return the first line of an error's message, without the middle of a long one.

    TensorStore names the array at the beginning and the reason at the end.
    """
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    text = next(iter(str(error).strip().splitlines()), type(error).__name__)
    if len(text) > 300:
        text = f"{text[:140]} ... {text[-140:]}"
    return text.rstrip(".")
