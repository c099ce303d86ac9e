"""Checkpoints of the last two epochs. Only this file uses orbax.

    checkpoints/<epoch>/state.safetensors

The tensors are the arrays of the training state. The metadata have `record`, a JSON
object: where the run is, and a SHA-256 of the numbers, which detects flipped bits.

A state has several copies of the weights: the last ones, those of the best epoch, those
that early stopping would restore, and their moving average. Frozen parameters are the
same in all of them. Identical arrays are therefore saved once, and the record maps each
leaf of the state to its array.

Orbax writes a checkpoint to a temporary folder and renames it, so that a kill leaves
the earlier ones intact. Its own format would take five times as long for arrays of this
size, and retain 20 kB of memory for each save.
"""

import dataclasses
import itertools
import json
import logging
import shutil
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import safetensors.numpy

from mnist_jax import tree
from mnist_jax.devices import processes
from mnist_jax.errors import UserError
from mnist_jax.training.state import TrainState

LOGGER = logging.getLogger(__name__)

VERSION = 2
"""Of the saved record and state; to be raised when the fields of either change."""

_KEPT, _FILE = 2, "state.safetensors"
# Entries of the saved record beside the caller's.
_PLACES, _DIGEST, _VERSION = "arrays", "sha256", "version"
# Raised if files are missing, cut short or altered.
_DAMAGE = (
    *(ValueError, KeyError, TypeError, RecursionError, safetensors.SafetensorError),
    *(FileNotFoundError, NotADirectoryError, IsADirectoryError),
)


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


Saved = tuple[dict[str, np.ndarray], dict[str, Any]]
"""The distinct arrays of a state by name, and the record."""


class _Handler(ocp.CheckpointHandler):
    """Keeps arrays and a record in one file of a checkpoint's folder."""

    def save(self, directory: Path, args: "_Args") -> None:
        arrays, record = args.saved
        metadata = {"record": json.dumps(record)}
        safetensors.numpy.save_file(arrays, directory / _FILE, metadata)

    def restore(self, directory: Path, args: Any = None) -> Saved:
        # NumPy alone lacks bfloat16.
        with safetensors.safe_open(directory / _FILE, framework="flax") as file:
            record = dict(json.loads(file.metadata()["record"]))
            return {name: file.get_tensor(name) for name in file.keys()}, record


@ocp.args.register_with_handler(_Handler, for_save=True, for_restore=True)
@dataclasses.dataclass
class _Args(ocp.args.CheckpointArgs):
    saved: Saved


class Checkpoints:
    """The checkpoints of one run, in its folder `checkpoints/`.

    Of several processes, each can read them, and the first alone may save.
    """

    def __init__(self, folder: Path):
        self._folder = folder
        here = jax.process_index() if processes.count() > 1 else 0
        try:
            folder.mkdir(parents=True, exist_ok=True)
            if here == 0:
                for path in folder.glob("*.orbax-checkpoint-tmp*"):
                    shutil.rmtree(path)  # of a save that did not end
            self._checkpointer = ocp.Checkpointer(
                _Handler(),
                # No process waits for another one.
                multiprocessing_options=ocp.options.MultiprocessingOptions(
                    primary_host=here,
                    active_processes={here},
                    barrier_sync_key_prefix=f"process{here}",
                ),
            )
        except Exception as error:
            raise CheckpointError(
                f"Cannot open the checkpoints in {folder}: {_reason(error)}."
            ) from error

    def close(self) -> None:
        """Release orbax's resources."""
        self._checkpointer.close()

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
        try:
            path = self._folder / str(epoch)
            self._checkpointer.save(path, args=_Args((arrays, record)))
            for path in _saved(self._folder)[:-_KEPT]:
                shutil.rmtree(path)
        except Exception as error:
            raise CheckpointError(
                f"Cannot write the checkpoint of epoch {epoch} to {self._folder}: "
                f"{_reason(error)}. Earlier checkpoints are untouched: make room, then "
                "repeat the command to resume from them."
            ) from error

    def restore(self) -> Checkpoint | None:
        """Read the newest intact checkpoint; None if none was ever saved.

        Damaged ones are moved to `checkpoints/damaged/`, with a warning: those that
        cannot be decoded, or with numbers that do not match their checksum.

        Raises:
            CheckpointError: there are checkpoints, but all are damaged; the newest
                cannot be read for another reason, such as a lack of memory; or another
                version of this package wrote it.
        """
        found = _saved(self._folder)
        for path in reversed(found):
            try:
                return _read(path)
            except CheckpointError:
                raise
            except _DAMAGE as error:
                LOGGER.warning(
                    "The checkpoint of epoch %s is damaged (%s). Moved it to %s; "
                    "trying the previous one.",
                    path.name,
                    _reason(error),
                    self._move_aside(path),
                )
            except Exception as error:
                raise CheckpointError(
                    f"Cannot read {path}: {_reason(error)}. It may be intact, and "
                    "stays where it is."
                ) from error
        if found or (self._folder / "damaged").exists():
            raise CheckpointError(
                f"None of the checkpoints in {self._folder} can be read. Restore them "
                "from a copy, or start again with another --workdir."
            )
        return None

    def _move_aside(self, path: Path) -> Path:
        folder = self._folder / "damaged"
        folder.mkdir(exist_ok=True)
        names = (f"{path.name}-{number}" for number in itertools.count(2))
        targets = (folder / name for name in itertools.chain([path.name], names))
        return path.rename(next(each for each in targets if not each.exists()))


def exist(folder: Path) -> bool:
    """Return whether a folder `checkpoints/` has an epoch to resume from."""
    return bool(_saved(folder))


def _saved(folder: Path) -> list[Path]:
    """Return the checkpoints in the order of their epochs."""
    paths = [path for path in folder.glob("*") if path.name.isdecimal()]
    return sorted(paths, key=lambda path: int(path.name))


def _read(path: Path) -> Checkpoint:
    arrays, record = _Handler().restore(path)
    leaves = [np.asarray(arrays[str(place)]) for place in record.pop(_PLACES)]
    if tree.digest(leaves) != record.pop(_DIGEST):
        raise ValueError("its numbers do not match their SHA-256")
    if record.pop(_VERSION) != VERSION:
        raise CheckpointError(_other_version(path))
    return Checkpoint(record, leaves, path)


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
    arrays = {
        str(place): np.asarray(leaves[place], order="C") for place in first.values()
    }
    return arrays, places


def _reason(error: BaseException) -> str:
    """Return the first line of a message, without TensorStore's list of settings."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    text = next(iter(str(error).strip().splitlines()), type(error).__name__)
    return text.partition(" [tensorstore_spec=")[0].rstrip(".")
