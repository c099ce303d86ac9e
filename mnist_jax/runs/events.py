"""The events of a run, for TensorBoard, written by tensorboardX.

The x axis is the epoch, counted over all phases as in metrics.jsonl. Steps would not be
comparable between phases, or runs, with different batch sizes.
"""

from collections.abc import Sequence
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


class Events:
    """Writes the events of one run.

    Args:
        folder: the folder for event files.
        history: the contents of metrics.jsonl. The new event file begins with these
            epochs, and tells TensorBoard to ignore what earlier files say of them.
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

    def add_results(self, config: Experiment, results: dict[str, Any]) -> None:
        """Write the result of the test, and the config for TensorBoard's HParams."""
        from tensorboardX.summary import hparams

        split = results["tested_on"]
        tested = results["test"][results["test_weights"]]
        scalars = {f"{name}/{split}": tested[name] for name in _FIGURES}
        fields = {
            name: value
            for name, value in flatten(to_json(config)).items()
            if isinstance(value, str | int | float)
            and name.partition("[")[0] not in (*LOCATION_FIELDS, "log.tensorboard")
        }
        for part in hparams(fields, scalars):
            self._writer.file_writer.add_summary(part)  # type: ignore[union-attr]
        if split == "test":  # the validation images have their curves already
            self._add(scalars, results["epochs"], None)
        self._writer.flush()

    def close(self) -> None:
        """Write everything to the disk."""
        self._writer.close()

    def _add(self, scalars: dict[str, float], epoch: int, time: float | None) -> None:
        for tag, value in scalars.items():
            self._writer.add_scalar(tag, value, epoch, walltime=time)
