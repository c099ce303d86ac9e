"""The events of a run, for TensorBoard, written by tensorboardX.

The x axis is the epoch, counted over all phases as in metrics.jsonl. Steps would not be
comparable between phases, or runs, with different batch sizes.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mnist_jax.errors import UserError

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


class Events:
    """Writes the events of one run.

    Args:
        folder: the folder for event files.
        history: the contents of metrics.jsonl. The new event file begins with these
            epochs, and makes TensorBoard ignore them in earlier files.
    """

    def __init__(self, folder: Path, history: Sequence[dict[str, Any]]):
        from tensorboardX import SummaryWriter

        self._writer = SummaryWriter(str(folder), purge_step=0)
        self.add(history)

    def add(self, records: Sequence[dict[str, Any]]) -> None:
        """Write lines of metrics.jsonl."""
        for record in records:
            scalars = {f"{name}/{record['split']}": record[name] for name in _FIGURES}
            if "learning_rate" in record:
                scalars["learning_rate"] = record["learning_rate"]
            self._add(scalars, record["epoch"], record["time"])
        self._writer.flush()

    def add_results(self, results: dict[str, Any]) -> None:
        """Write the result, unless it is of the validation images."""
        if results["tested_on"] == "test":
            tested = results["test"][results["test_weights"]]
            scalars = {f"{name}/test": tested[name] for name in _FIGURES}
            self._add(scalars, results["epochs"], None)
        self._writer.flush()

    def close(self) -> None:
        """Write everything to the disk."""
        self._writer.close()

    def _add(self, scalars: dict[str, float], epoch: int, time: float | None) -> None:
        for tag, value in scalars.items():
            self._writer.add_scalar(tag, value, epoch, walltime=time)
