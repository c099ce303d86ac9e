"""This project's own trainer, as run.py uses it."""

import dataclasses
import importlib
import sys

import jax
from rich.console import Console

from benchmarks.work import ROTATION, SHIFT, ZOOM, Work, make_images
from mnist_jax import data, experiment, models
from mnist_jax.console import TrainingProgress
from mnist_jax.models import operations
from mnist_jax.training import phase as phases
from mnist_jax.training import state
from mnist_jax.training.evaluator import Evaluator
from mnist_jax.training.keys import make_keys
from mnist_jax.training.trainer import NonFiniteLossError, Trainer

PACKAGES = ("jax", "flax")


def prepare(work: Work, options: list[str]):
    """Build the trainer of the report's recipe; see `work.prepare`.

    The options are "xla" for XLA's convolutions, and "bfloat16".
    """
    values = importlib.import_module(f"configs.{work.network}").get_config()
    config = experiment.parse(values)
    dtype = "bfloat16" if "bfloat16" in options else config.dtype
    choice = operations.choose("xla" if "xla" in options else "auto", dtype=dtype)
    if choice.reason:
        print(f"Not oneDNN, since {choice.reason}.", file=sys.stderr)
    model = models.create(config.model, data.task(config.data), dtype=dtype)
    model = dataclasses.replace(model, convolutions=choice.form)
    phase = phases.create(config.phases[-1])
    batch_size = work.recipe.batch_size
    assert phase.config.batch_size == batch_size
    config = dataclasses.replace(
        config,
        augment=dataclasses.replace(
            config.augment,
            rotation=ROTATION * work.augmented,
            zoom=ZOOM * work.augmented,
            shift=SHIFT * work.augmented,
        ),
        eval_batch_size=batch_size,
    )
    images, labels = make_images(work)
    few = slice(batch_size)  # for the validation, which is not timed
    val = data.Split(images[few], labels[few])
    keys = make_keys(0)
    current = jax.jit(lambda: state.create(*model.init(keys.init), phase))()
    trainer = Trainer(
        config,
        model,
        phase,
        data.Dataset("made", data.Split(images, labels), val, val),
        states=[current],
        keys=[keys],
        evaluator=Evaluator.of_model(model, config),
        progress=TrainingProgress(Console(quiet=True), epochs=1),
    )
    epoch = 0

    def run() -> float:
        nonlocal current, epoch
        epoch += 1
        current, [outcome] = trainer.epoch(current, [epoch])
        assert not isinstance(outcome, NonFiniteLossError), outcome
        return outcome[0]["seconds"]

    return run
