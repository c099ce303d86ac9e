"""Checkpoints of the last two epochs. Only this file uses orbax.

    checkpoints/<epoch>/state     the arrays of the training state
    checkpoints/<epoch>/record    a JSON object: where the run is, and a checksum

A state has several copies of the weights: the last ones, those of the best epoch, those
that early stopping would restore, and their moving average. Frozen parameters are the
same in all of them. Identical arrays are therefore saved once, and the record maps each
leaf of the state to its array.

Orbax writes a checkpoint to a temporary folder and renames it, so that a kill leaves
the earlier ones intact. A SHA-256 of the numbers detects flipped bits.
"""

import contextlib
import logging
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
from absl import logging as absl_logging

from mnist_jax import tree
from mnist_jax.devices import processes
from mnist_jax.errors import UserError
from mnist_jax.training.state import TrainState

LOGGER = logging.getLogger(__name__)

VERSION = 1
"""Of the state's layout; to be raised whenever the fields of `TrainState` change."""

# Entries of the saved record beside the caller's.
_PLACES, _DIGEST, _VERSION = "arrays", "sha256", "version"
# Raised by orbax and TensorStore if files are missing, cut short or altered.
_DAMAGE = (ValueError, KeyError, TypeError, FileNotFoundError, NotADirectoryError)


class CheckpointError(UserError):
    """A checkpoint cannot be written, or none can be read."""


class Checkpoint(NamedTuple):
    """An intact checkpoint."""

    record: dict[str, Any]
    leaves: list[np.ndarray]
    """Of the state, in the order of `jax.tree.leaves`."""
    path: Path

    def as_state(self, shapes: TrainState) -> TrainState:
        """Arrange the arrays as a state of these shapes, on the default device.

        Raises:
            CheckpointError: the checkpoint has other arrays.
        """
        wanted, structure = jax.tree.flatten(shapes)
        found = [(leaf.shape, leaf.dtype) for leaf in self.leaves]
        if found != [(leaf.shape, leaf.dtype) for leaf in wanted]:
            raise CheckpointError(_other_version(self.path))
        # The training step donates its buffers: no two leaves may share one.
        copies = [jnp.array(leaf, copy=True) for leaf in self.leaves]
        return jax.tree.unflatten(structure, copies)


class Checkpoints:
    """The checkpoints of one run, in its folder `checkpoints/`.

    Of several processes, each can read them, and the first alone may save.
    """

    def __init__(self, folder: Path):
        self._folder = folder
        here = jax.process_index() if processes.count() > 1 else 0
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with _quiet():
                self._manager = ocp.CheckpointManager(
                    folder,
                    options=ocp.CheckpointManagerOptions(
                        max_to_keep=2,
                        create=False,  # creating would wait for other processes
                        # A kill during a save leaves some.
                        cleanup_tmp_directories=here == 0,
                        # Epochs take seconds and these saves milliseconds: not worth a
                        # thread.
                        enable_async_checkpointing=False,
                        # No process waits for another one.
                        multiprocessing_options=ocp.options.MultiprocessingOptions(
                            primary_host=here,
                            active_processes={here},
                            barrier_sync_key_prefix=f"process{here}",
                        ),
                    ),
                )
        except Exception as error:
            raise CheckpointError(
                f"Cannot open the checkpoints in {folder}: {_reason(error)}."
            ) from error

    def close(self) -> None:
        """Release orbax's resources."""
        self._manager.close()

    def save(self, epoch: int, state: TrainState, record: dict[str, Any]) -> None:
        """Save the state after `epoch`, counted from 1, and a record, a JSON object.

        Raises:
            CheckpointError: it cannot be written. Earlier checkpoints are untouched.
        """
        leaves = jax.tree.leaves(jax.device_get(state))
        arrays, places = _deduplicate(leaves)
        record = {
            **record,
            _DIGEST: tree.digest(leaves),
            _PLACES: places,
            _VERSION: VERSION,
        }
        args = ocp.args.Composite(
            state=ocp.args.StandardSave(arrays),  # type: ignore[call-arg]
            record=ocp.args.JsonSave(record),  # type: ignore[call-arg]
        )
        try:
            with _quiet():
                self._manager.save(epoch, args=args)
        except Exception as error:
            raise CheckpointError(
                f"Cannot write the checkpoint of epoch {epoch} to {self._folder}: "
                f"{_reason(error)}. Earlier checkpoints are untouched: make room, then "
                "repeat the command to resume from them."
            ) from error

    def restore(self) -> Checkpoint | None:
        """Read the newest intact checkpoint; None if none was ever saved.

        Damaged ones are moved to `checkpoints/damaged/`, with a warning: those with a
        file that cannot be decoded, or with numbers that do not match their checksum.

        Raises:
            CheckpointError: there are checkpoints, but all are damaged; the newest
                cannot be read for another reason, such as a lack of memory; or another
                version of this package wrote it.
        """
        found = _epochs(self._folder)
        for epoch in reversed(found):
            try:
                return self._read(epoch)
            except CheckpointError:
                raise
            except Exception as error:
                exhausted = "RESOURCE_EXHAUSTED" in str(error)
                if exhausted or not isinstance(error, _DAMAGE):
                    raise CheckpointError(
                        f"Cannot read the checkpoint of epoch {epoch} in "
                        f"{self._folder}: {_reason(error)}. It may be intact, and "
                        "stays where it is."
                    ) from error
                LOGGER.warning(
                    "The checkpoint of epoch %d is damaged (%s). Moved it to %s; "
                    "trying the previous one.",
                    epoch,
                    _reason(error),
                    self._move_aside(epoch),
                )
        if found or (self._folder / "damaged").exists():
            raise CheckpointError(
                f"None of the checkpoints in {self._folder} can be read. Restore them "
                "from a copy, or start again with another --workdir."
            )
        return None

    def _read(self, epoch: int) -> Checkpoint:
        args = ocp.args.Composite(
            state=ocp.args.StandardRestore(),  # type: ignore[call-arg]
            record=ocp.args.JsonRestore(),  # type: ignore[call-arg]
        )
        with _quiet():
            saved = self._manager.restore(epoch, args=args)
        record, arrays = dict(saved["record"]), saved["state"]
        leaves = [np.asarray(arrays[str(place)]) for place in record.pop(_PLACES)]
        if tree.digest(leaves) != record.pop(_DIGEST):
            raise ValueError("its numbers do not match their SHA-256")
        path = self._folder / str(epoch)
        if record.pop(_VERSION) != VERSION:
            raise CheckpointError(_other_version(path))
        return Checkpoint(record, leaves, path)

    def _move_aside(self, epoch: int) -> Path:
        folder = self._folder / "damaged"
        folder.mkdir(exist_ok=True)
        target = folder / str(epoch)
        while target.exists():
            target = target.with_name(f"{target.name}-again")
        (self._folder / str(epoch)).rename(target)
        self._manager.reload()
        return target


def exist(folder: Path) -> bool:
    """Return whether a folder `checkpoints/` has an epoch to resume from."""
    return bool(_epochs(folder))


def _epochs(folder: Path) -> list[int]:
    names = (path.name for path in folder.glob("*"))
    return sorted(int(name) for name in names if name.isdecimal())


def _other_version(path: Path) -> str:
    return (
        f"Another version of mnist_jax wrote {path}, with another training state. "
        "Finish the run with that version, or start again with another --workdir."
    )


def _deduplicate(leaves: list[np.ndarray]) -> tuple[dict[str, np.ndarray], list[int]]:
    """Return each distinct array once, and for each leaf the number of its array.

    Arrays are distinct if they differ in dtype, shape or any bit. An array is numbered,
    and named, by the position of the first leaf that has it.
    """
    first: dict[str, int] = {}
    places = [first.setdefault(tree.digest(leaf), n) for n, leaf in enumerate(leaves)]
    return {str(place): leaves[place] for place in first.values()}, places


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep orbax's threads from printing tracebacks of errors that it raises anyway."""
    verbosity, hook = absl_logging.get_verbosity(), sys.unraisablehook
    absl_logging.set_verbosity(absl_logging.FATAL)
    sys.unraisablehook = lambda _: None
    try:
        yield
    except Exception:
        time.sleep(0.5)  # Threads that are still working fail a moment later.
        raise
    finally:
        absl_logging.set_verbosity(verbosity)
        sys.unraisablehook = hook


def _reason(error: BaseException) -> str:
    """Return the first line of a message, without TensorStore's list of settings."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    text = next(iter(str(error).strip().splitlines()), type(error).__name__)
    return text.partition(" [tensorstore_spec=")[0].rstrip(".")
