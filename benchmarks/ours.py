"""This project's own loop, as run.py uses it."""

import dataclasses
import importlib
import sys

import jax
import jax.numpy as jnp

from benchmarks.work import ROTATION, SHIFT, ZOOM, Work, make_images
from mnist_jax import data, experiment, models
from mnist_jax.data import augment
from mnist_jax.devices import parallel
from mnist_jax.models import operations
from mnist_jax.training import loop, predict, state
from mnist_jax.training.phase import Phase
from mnist_jax.training.step import Batch

PACKAGES = ("jax", "flax")


class _Silence:
    def compiling(self) -> None:
        pass

    def compiled(self, seconds: float) -> None:
        pass

    def steps_done(self, epoch: int, step: int, steps: int, loss: float) -> None:
        pass


def prepare(work: Work, options: list[str]):
    """Build the trainer of the report's recipe; see `work.prepare`.

    The options are "xla" for XLA's convolutions, and "bfloat16".
    """
    values = importlib.import_module(f"configs.{work.network}").get_config()
    config = experiment.parse(values)
    augmentation = dataclasses.replace(
        config.augment,
        rotation=ROTATION * work.augmented,
        zoom=ZOOM * work.augmented,
        shift=SHIFT * work.augmented,
    )
    dtype = "bfloat16" if "bfloat16" in options else config.dtype
    choice = operations.choose("xla" if "xla" in options else "auto", dtype=dtype)
    if choice.reason:
        print(f"Not oneDNN, since {choice.reason}.", file=sys.stderr)
    model = models.create(config.model, data.task(config.data), dtype=dtype)
    model = dataclasses.replace(model, convolutions=choice.form)
    phase = Phase.from_config(config.phases[-1])
    recipe = work.recipe
    assert phase.batch_size == recipe.batch_size
    images, labels = map(jnp.asarray, make_images(work))
    few = slice(recipe.batch_size)  # for the validation, which is not timed
    keys = loop.make_keys(0)
    current = jax.jit(lambda: state.create(*model.init(keys.init), phase))()
    devices = parallel.choose(config.parallel, phase.batch_size)
    trainer = loop.Trainer(
        apply_fn=model.apply,
        loss_fn=model.loss,
        phase=phase,
        data=Batch(images, labels),
        val=Batch(images[few], labels[few]),
        augment_fn=augment.create(augmentation),
        devices=devices,
        evaluate=predict.make_evaluate(
            apply_fn=model.apply,
            loss_fn=model.loss,
            batch_size=phase.batch_size,
            devices=devices,
        ),
        steps_per_call=loop.default_steps_per_call(
            jax.default_backend(), model.convolutions, work.steps
        ),
        monitor="val_loss",
        keys=keys,
        listener=_Silence(),
    )
    epoch = 0

    def run() -> float:
        nonlocal current, epoch
        epoch += 1
        current, [outcome] = trainer.run_epochs(current, [epoch])
        assert not isinstance(outcome, loop.NonFiniteLossError), outcome
        return outcome[0]["seconds"]

    return run
