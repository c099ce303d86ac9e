"""The event file of a run, for TensorBoard.

tensorboardX defines the events. Its SummaryWriter is not used: it writes from a thread,
so that a full disk would block the run instead of ending it with an error, and it
cannot replace what a killed run has left.

The x axis is the epoch, counted through all phases as in metrics.jsonl. Steps would not
be comparable between phases, or runs, with different batch sizes.
"""

import struct
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from mnist_jax.config import Experiment, to_json
from mnist_jax.errors import UserError
from mnist_jax.runs.folder import LOCATION_FIELDS, flatten

_FIGURES = ("loss", "accuracy")


def check_installed() -> None:
    """Raise UserError if tensorboardX cannot be imported."""
    try:
        import tensorboardX  # noqa: F401
    except ImportError as error:
        raise UserError(
            f"--config.log.tensorboard needs a package that is missing ({error}): "
            "pip install tensorboardX"
        ) from error


def write(path: Path, history: Sequence[dict[str, Any]]) -> None:
    """Write the event file of the epochs so far.

    In place: a running TensorBoard keeps reading from where it was, and the bytes of
    epochs that the file already has do not change.

    Args:
        path: the file; it and its folder need not exist.
        history: what metrics.jsonl holds.

    Raises:
        OSError: the file cannot be written.
    """
    path.parent.mkdir(exist_ok=True)
    begun = history[0].get("time") if history else None
    with path.open("r+b" if path.exists() else "wb") as file:
        file.write(_record(begun or time.time(), file_version="brain.Event:2"))
        file.write(_epochs(history))
        file.truncate()


def append(path: Path, records: Sequence[dict[str, Any]]) -> None:
    """Append the events of an epoch, given its lines of metrics.jsonl.

    Raises:
        OSError: the file cannot be written.
    """
    _append(path, _epochs(records))


def append_results(path: Path, config: Experiment, results: dict[str, Any]) -> None:
    """Append the result of the test, and the config for TensorBoard's HParams.

    Args:
        path: the event file.
        config: of the run.
        results: the contents of results.json.

    Raises:
        OSError: the file cannot be written.
    """
    from tensorboardX.summary import hparams

    split, now, step = results["tested_on"], time.time(), results["epochs"]
    tested = results["test"][results["test_weights"]]
    scalars = {f"{name}/{split}": tested[name] for name in _FIGURES}
    fields = {
        name: value
        for name, value in flatten(to_json(config)).items()
        if isinstance(value, str | int | float)
        and not name.startswith((*LOCATION_FIELDS, "log."))
    }
    parts = [_record(now, summary=part) for part in hparams(fields, scalars)]
    if split == "test":  # The validation images have their curves already.
        parts.append(_scalars(now, step, scalars))
    _append(path, b"".join(parts))


def _append(path: Path, content: bytes) -> None:
    with path.open("ab") as file:
        file.write(content)


def _epochs(records: Iterable[dict[str, Any]]) -> bytes:
    return b"".join(map(_epoch, records))


def _epoch(record: dict[str, Any]) -> bytes:
    """Return the event of a line of metrics.jsonl."""
    scalars = {f"{name}/{record['split']}": record[name] for name in _FIGURES}
    if "learning_rate" in record:
        scalars["learning_rate"] = record["learning_rate"]
    # Runs that an earlier version began have lines without a time.
    return _scalars(record.get("time", time.time()), record["epoch"], scalars)


def _scalars(wall_time: float, step: int, scalars: dict[str, float]) -> bytes:
    from tensorboardX.proto.summary_pb2 import Summary  # type: ignore[attr-defined]

    values = [
        Summary.Value(tag=tag, simple_value=value) for tag, value in scalars.items()
    ]
    return _record(wall_time, step=step, summary=Summary(value=values))


def _record(wall_time: float, **fields: Any) -> bytes:
    """Return an event in the TFRecord format: length, content, and a CRC of each."""
    from tensorboardX.proto.event_pb2 import Event  # type: ignore[attr-defined]
    from tensorboardX.record_writer import masked_crc32c

    content = Event(wall_time=wall_time, **fields).SerializeToString()
    length = struct.pack("<Q", len(content))
    return b"".join(
        part + struct.pack("<I", masked_crc32c(part)) for part in (length, content)
    )
