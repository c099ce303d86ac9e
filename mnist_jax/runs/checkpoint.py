"""Checkpoints of the last two epochs and of the best one. Only this file uses orbax.

    checkpoints/last/<epoch>/   the whole training state, and a record: a JSON object
                                with what the loop needs to resume, such as the history
    checkpoints/best/<epoch>/   params and batch_stats of the best epoch so far

A state holds several copies of the weights: last, best, those that early stopping would
restore, their moving average. Frozen parameters are the same in all of them, so
identical arrays are saved once, and the record maps leaves to arrays.

There are two managers since orbax's `max_to_keep` with `best_fn` would drop the newest
checkpoint. A save is written to a temporary folder and renamed, so a kill leaves the
earlier ones intact. A SHA-256 of the numbers detects flipped bits.
"""

import contextlib
import errno
import itertools
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
from mnist_jax.tree import Tree

LOGGER = logging.getLogger(__name__)
# The entry of the record that maps each leaf of the state to a saved array.
_PLACES = "arrays"


class CheckpointError(UserError):
    """A checkpoint cannot be written, or none can be read."""


class Checkpoints:
    """The checkpoints of one run, in its folder `checkpoints/`."""

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
        """Release orbax's resources."""
        self._last.close()
        self._best.close()

    def save(self, epoch: int, state: TrainState, record: dict[str, Any]) -> None:
        """Save the state after `epoch` (from 1), and its weights if they are the best.

        If this raises CheckpointError, earlier checkpoints are untouched.
        """
        state = jax.device_get(state)
        arrays, places = _deduplicate(jax.tree.leaves(state))
        record = {**record, "sha256": tree.digest(state), _PLACES: places}
        with self._naming_errors(epoch):
            self._check_room(arrays, state.best)
            _save(self._last, epoch, arrays, record)
            self._sync_best(state)

    def restore(
        self, abstract_state: Callable[[dict[str, Any]], TrainState]
    ) -> tuple[TrainState, dict[str, Any]] | None:
        """Load the newest intact checkpoint; None if none was ever saved.

        Damaged ones are moved to `checkpoints/damaged/`, with a warning.

        Args:
            abstract_state: returns the shapes of the state for a record.

        Raises:
            CheckpointError: there are checkpoints, but none can be read, or the newest
                cannot for want of memory or a permission, or the best epoch's is
                missing and cannot be written.
        """
        found = _numbered(self._folder / "last")
        for epoch in sorted(found, reverse=True):
            try:
                state, record = self._read(epoch, abstract_state)
            except (MemoryError, PermissionError) as error:
                raise CheckpointError(
                    f"Cannot read the checkpoint of epoch {epoch} in {self._folder}: "
                    f"{_reason(error)}. It may be sound, and is left as it is."
                ) from error
            except Exception as error:
                LOGGER.warning(
                    "The checkpoint of epoch %d is damaged (%s). Moved it to %s; "
                    "trying the one before.",
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
                "from a copy, or start over with another --workdir."
            )
        return None

    @contextlib.contextmanager
    def _naming_errors(self, epoch: int) -> Iterator[None]:
        """Turn errors in writing the checkpoint of `epoch` into CheckpointError."""
        try:
            with _quiet():
                yield
        except Exception as error:
            raise CheckpointError(
                f"Cannot write the checkpoint of epoch {epoch} to {self._folder}: "
                f"{_reason(error)}. Earlier checkpoints are untouched: make room, then "
                "repeat the command to resume from them."
            ) from error

    def _check_room(self, *saved: Tree) -> None:
        """Raise OSError if the disk has no room for these arrays and some metadata."""
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
        if places is not None:  # older versions saved the state unchanged
            layout = dict(zip(map(str, places), leaves, strict=True))
        restored = self._last.restore(
            epoch, args=ocp.args.Composite(state=ocp.args.StandardRestore(layout))
        )["state"]
        if places is not None:
            # The training step donates its buffers: no two leaves may share one.
            leaves = [jnp.copy(restored[str(place)]) for place in places]
            restored = jax.tree.unflatten(structure, leaves)
        _check_digest(restored, record.pop("sha256"))
        return restored, record

    def _sync_best(self, state: TrainState) -> None:
        """Make checkpoints/best hold the state's best epoch.

        They differ after a kill between the two saves, or if a damaged checkpoint
        sends the run back an epoch.
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
            _save(self._best, epoch, weights, {"sha256": tree.digest(weights)})

    def _move_aside(self, epoch: int) -> Path:
        folder = self._folder / "damaged"
        folder.mkdir(exist_ok=True)
        names = itertools.chain(
            [str(epoch)], (f"{epoch}-{n}" for n in itertools.count(1))
        )
        target = next(folder / name for name in names if not (folder / name).exists())
        (self._folder / "last" / str(epoch)).rename(target)
        self._last.reload()
        return target


def read_best(folder: Path) -> tuple[Tree, Tree]:
    """Read `(params, batch_stats)` of the best epoch from a run's `checkpoints/`."""
    best = folder.absolute() / "best"  # orbax accepts no relative path
    epochs = _numbered(best) if best.is_dir() else []
    if not epochs:
        raise CheckpointError(f"{best} has no checkpoint.")
    newest = best / str(max(epochs))
    try:
        with _quiet(), ocp.StandardCheckpointer() as checkpointer:
            saved = checkpointer.restore(newest / "state")
        record = json.loads((newest / "record" / "metadata").read_text())
        _check_digest(saved, record["sha256"])
    except Exception as error:
        raise CheckpointError(f"{best} is damaged: {_reason(error)}.") from error
    return saved["params"], saved["batch_stats"]


def _check_digest(state: Tree, sha256: str) -> None:
    if tree.digest(state) != sha256:
        raise ValueError("its numbers do not match their SHA-256")


def _deduplicate(leaves: list[np.ndarray]) -> tuple[dict[str, np.ndarray], list[int]]:
    """Return each distinct array once, and for each leaf the number of its array.

    Arrays are distinct if they differ in dtype, shape or any bit. An array is numbered,
    and named, by the position of the first leaf that has it.
    """
    first: dict[str, int] = {}
    places = [first.setdefault(tree.digest(leaf), n) for n, leaf in enumerate(leaves)]
    return {str(place): leaves[place] for place in first.values()}, places


def _manager(folder: Path, *, keep: int) -> ocp.CheckpointManager:
    folder.mkdir(parents=True, exist_ok=True)
    return ocp.CheckpointManager(
        folder,
        options=ocp.CheckpointManagerOptions(
            max_to_keep=keep,
            create=False,  # creating would wait for other processes
            cleanup_tmp_directories=True,  # left by a kill during a save
            # Epochs take seconds and these saves milliseconds: not worth a thread.
            enable_async_checkpointing=False,
            # Other processes do not wait for the one that writes.
            multiprocessing_options=ocp.options.MultiprocessingOptions(
                primary_host=0,
                active_processes={0},
                barrier_sync_key_prefix=folder.name,
            ),
        ),
    )


def _save(
    manager: ocp.CheckpointManager, epoch: int, state: Tree, record: dict[str, Any]
) -> None:
    args = ocp.args.Composite(
        state=ocp.args.StandardSave(state), record=ocp.args.JsonSave(record)
    )
    manager.save(epoch, args=args)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep orbax's threads from printing tracebacks of what it raises anyway."""
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
    """Return the epochs that have a folder here, even one that orbax rejects."""
    return [int(path.name) for path in folder.iterdir() if path.name.isdecimal()]


def _reason(error: Exception) -> str:
    """Return the first line of a message; TensorStore has its reason at the end."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    text = next(iter(str(error).strip().splitlines()), type(error).__name__)
    if len(text) > 300:
        text = f"{text[:140]} ... {text[-140:]}"
    return text.rstrip(".")
