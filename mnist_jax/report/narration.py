"""Describe a run as it proceeds, in its log and its folder."""

import logging
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mnist_jax import data, files, models, pretrained, report, tree
from mnist_jax.config import Experiment, to_stored
from mnist_jax.data import augment
from mnist_jax.devices.compiler import short_program_options
from mnist_jax.models import operations
from mnist_jax.runs import environment
from mnist_jax.runs.folder import RunFolder
from mnist_jax.training import loop
from mnist_jax.training.phase import Phase
from mnist_jax.training.state import TrainState
from mnist_jax.training.step import to_input
from mnist_jax.tree import Tree

LOGGER = logging.getLogger(__name__)


def describe(
    config: Experiment,
    folder: RunFolder,
    model: models.Model,
    dataset: data.Dataset,
    convolutions: operations.Choice,
    command: str | None = None,
) -> None:
    """Write the files known before training, and log what is about to be trained."""
    here = environment.describe(convolutions.name, command)
    if folder.config.exists():
        if changed := folder.noted_changes(config):
            LOGGER.info("This run resumes with other settings:\n%s", changed)
        environment.warn_if_changed(folder.environment, here)
    else:
        files.write_json(folder.environment, here)
        files.write_text(folder.summary, model.summary())
        about = {"run": f"{config.name}, seed {config.seed}", "data": dataset.name}
        train = dataset.train
        report.write_samples(folder.path, train.images, train.labels, **about)
        _draw_augmented(config, folder, train, about)
        # Last, since the config marks the other files as complete.
        files.write_json(folder.config, to_stored(config))
    parameters = tree.count_parameters(*model.shapes)
    parts = {"train": dataset.train, "validate": dataset.val, "test": dataset.test}
    if config.data.test_on == "val":
        del parts["test"]
    LOGGER.info(
        "%s: %s with %s parameters on %s (%s), seed %d, %s, convolutions: %s",
        config.name,
        model.name,
        f"{parameters:,}",
        dataset.name,
        ", ".join(f"{len(part):,} to {name}" for name, part in parts.items()),
        config.seed,
        here["device_kind"],
        convolutions.name,
    )
    if convolutions.reason:
        LOGGER.info("Not using oneDNN's convolutions: %s.", convolutions.reason)
    slow = here["device"] == "cpu" and convolutions.form != "onednn"
    if slow and config.steps_per_call > 1:
        LOGGER.warning(
            "--config.steps_per_call=%d: on a CPU, XLA's convolutions are several "
            "times slower inside a loop of steps. Leave it at 0, or install oneDNN's "
            "(make native).",
            config.steps_per_call,
        )
    LOGGER.info("Run folder: %s", folder.path)
    if config.log.tensorboard:
        LOGGER.info("Watch it:   tensorboard --logdir=%s", folder.events.parent)


def _draw_augmented(
    config: Experiment, folder: RunFolder, train: data.Split, about: dict[str, str]
) -> None:
    """Draw augmented versions of the first image of each digit."""
    augment_fn = augment.create(config.augment)
    if augment_fn is None:
        return
    rows = np.unique(train.labels, return_index=True)[1]
    images, versions = train.images[rows], 8
    keys = jax.random.split(loop.make_keys(config.seed).step, versions)
    function = jax.vmap(augment_fn, in_axes=(0, None), out_axes=1)
    augmented = jax.jit(function, compiler_options=short_program_options())(
        keys, to_input(jnp.asarray(images))
    )
    report.write_augmented(folder.path, images, augmented, train.labels[rows], **about)


def say_weights(weights: pretrained.Weights) -> None:
    """Log which parameters are not drawn at random."""
    LOGGER.info(
        "Of the parameters, %d arrays are those of %s (SHA-256 %s).",
        len(weights.arrays),
        weights.source,
        weights.sha256,
    )


def describe_phase(phase: Phase, params: Tree) -> None:
    """Log what a phase freezes, and the learning rates of its layers."""
    if phase.freeze:
        table = phase.freeze.table(params)
        LOGGER.info("Parameters of phase %s:\n%s", phase.name, table)
    if phase.layer_rates:
        table = phase.layer_rates.table(params)
        LOGGER.info("Factors of the learning rate in phase %s:\n%s", phase.name, table)


def describe_together(model: models.Model) -> None:
    """Log what differs when several seeds train in one program."""
    LOGGER.info("Seconds are those of all these seeds, images/s those of each.")
    if model.convolutions == "onednn":
        LOGGER.info(
            "oneDNN computes the convolutions of one seed after the other; with "
            "--config.convolutions=xla they are computed for all seeds at once."
        )


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
    if phase.early_stopping.restore_best:
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
    page_path = folder.path / "report.html"  # which earlier versions did not write
    LOGGER.info("Report:   %s", page_path if page_path.exists() else folder.report)
