"""The description of a run in its folder, and its messages in the log."""

import logging
from typing import TYPE_CHECKING, Any

from mnist_jax import data, files, models, tree
from mnist_jax.config import to_json
from mnist_jax.models import operations
from mnist_jax.runs import environment
from mnist_jax.runs.folder import RunFolder
from mnist_jax.training.phase import Phase
from mnist_jax.training.state import TrainState

if TYPE_CHECKING:
    from mnist_jax.runs.run import Run

LOGGER = logging.getLogger(__name__)


def describe(
    run: "Run",
    model: models.Model,
    dataset: data.Dataset,
    convolutions: operations.Choice,
    weights: object = None,
) -> bool:
    """Write the files known before training, log them, and return if the run is new.

    `run.restore` must follow. `weights` describes the pretrained parameters as text.
    """
    config, folder = run.config, run.folder
    here = environment.describe(convolutions.name, seeds=run.seeds)
    is_new = not folder.config.exists()
    if is_new:
        files.write_json(folder.environment, here)
        files.write_text(folder.summary, model.summary())
        # Last, since the config marks the other files as complete.
        files.write_json(folder.config, to_json(config))
    else:
        environment.warn_if_changed(folder.environment, here)
    parts = {"train": dataset.train, "validate": dataset.val, "test": dataset.test}
    if config.data.test_on == "val":
        del parts["test"]
    LOGGER.info(
        "%s: %s with %s parameters on %s (%s), seed %d, %s, convolutions: %s",
        config.name,
        model.name,
        f"{tree.count_parameters(*model.shapes):,}",
        dataset.name,
        ", ".join(f"{len(part):,} to {name}" for name, part in parts.items()),
        config.seed,
        here["device_kind"],
        convolutions.name,
    )
    if convolutions.reason:
        LOGGER.info("Not using oneDNN's convolutions: %s.", convolutions.reason)
    LOGGER.info("Run folder: %s", folder.path)
    if weights and not run.has_checkpoint():
        LOGGER.info("Of the parameters, %s.", weights)
    return is_new


def describe_phase(phase: Phase, model: models.Model, seeds: int) -> None:
    """Log which layers a phase trains at which rate, and that seeds train together."""
    params, _ = model.shapes
    if phase.groups:
        table = phase.groups.table(params)
        LOGGER.info("Parameters of phase %s:\n%s", phase.name, table)
    if seeds > 1:
        LOGGER.info("Seconds are those of all these seeds, images/s those of each.")


def epoch_line(records: list[dict[str, Any]], current: TrainState) -> str:
    """Return the log's line for an epoch."""
    train, val = records
    best = "  best so far" if int(current.best.epoch) == train["epoch"] else ""
    return (
        f"epoch {train['epoch']:3d}  "
        f"train loss {train['loss']:.4f} accuracy {train['accuracy']:.4f}  "
        f"val loss {val['loss']:.4f} accuracy {val['accuracy']:.4f}  "
        f"{train['seconds']:.1f} s  {train['images_per_second']:,.0f} images/s{best}"
    )


def stop_line(phase: Phase, current: TrainState) -> str:
    """Return the log's line for a phase that ends early."""
    fields = phase.config.early_stopping
    line = f"{fields.monitor} has not improved for {fields.patience} epochs: stopped."
    if fields.restore_best:
        epoch = int(current.early_stopping.best.epoch)
        line += f" The weights of epoch {epoch} are restored."
    return line


def say_result(folder: RunFolder, results: dict[str, Any]) -> None:
    """Log the accuracy, and the paths of figures and report."""
    scores = results["test"][results["test_weights"]]
    low, high = scores["accuracy_interval"]
    LOGGER.info(
        "%s accuracy %.4f (95 %% interval %.4f-%.4f, %s images), %s epoch's weights.",
        {"test": "Test", "val": "Validation"}[results.get("tested_on", "test")],
        scores["accuracy"],
        low,
        high,
        f"{scores['examples']:,}",
        results["test_weights"],
    )
    LOGGER.info("Pictures: %s", folder.figures)
    LOGGER.info("Report:   %s", folder.path / "report.html")
