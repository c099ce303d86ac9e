"""This project's own loop, as run.py uses it."""

import dataclasses
import functools
import importlib
import importlib.metadata
import os
import shutil
import sys
import tempfile
import time

import jax
import jax.numpy as jnp

from benchmarks.work import HEAD_EPOCHS, ROTATION, SHIFT, ZOOM, Work, make_images
from mnist_jax import data, models
from mnist_jax.config import Experiment, parse
from mnist_jax.config import Phase as PhaseConfig
from mnist_jax.data import augment
from mnist_jax.devices import parallel
from mnist_jax.models import operations
from mnist_jax.training import features, loop, predict, state
from mnist_jax.training.phase import Phase
from mnist_jax.training.state import TrainState
from mnist_jax.training.step import ApplyFn, Batch


class _Silence:
    def compiling(self) -> None:
        pass

    def compiled(self, seconds: float) -> None:
        pass

    def steps_done(self, epoch: int, step: int, steps: int, loss: float) -> None:
        pass


def prepare(work: Work, way: str = ""):
    """Build the trainer of the report's recipe; see `work.prepare`.

    Args:
        work: what to train.
        way: "" for float32 with oneDNN's convolutions if available, "bfloat16" for that
            type, "xla" for float32 with XLA's convolutions.
    """
    config, fields = _find_recipe(work)
    dtype = "bfloat16" if way == "bfloat16" else config.dtype
    augmentation = dataclasses.replace(
        config.augment,
        rotation=ROTATION if work.augmented else 0.0,
        zoom=ZOOM if work.augmented else 0.0,
        shift=SHIFT if work.augmented else 0.0,
    )
    choice = operations.choose(way if way == "xla" else "auto", dtype=dtype)
    if choice.reason:
        print(f"Not oneDNN, since {choice.reason}.", file=sys.stderr)
    model = models.create(config.model, data.task(config.data), dtype=dtype)
    model = dataclasses.replace(model, convolutions=choice.form)
    phase = Phase.from_config(fields)
    keys = loop.make_keys(0)
    current = jax.jit(lambda: state.create(*model.init(keys.init), phase))()
    apply_fn, train, val, once = model.apply, *_load(work), 0.0
    if phase.freeze and not work.augmented:
        apply_fn, train, val, once = _reuse_features(model, phase, current, train, val)
    devices = parallel.choose(config.parallel, phase.batch_size)
    trainer = loop.Trainer(
        apply_fn=apply_fn,
        loss_fn=model.loss,
        phase=phase,
        data=train,
        val=val,
        augment_fn=augment.create(augmentation),
        devices=devices,
        evaluate=predict.make_evaluate(
            apply_fn=apply_fn,
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
        record, _ = outcome
        return record["seconds"] + once / HEAD_EPOCHS

    return run


def _find_recipe(work: Work) -> tuple[Experiment, PhaseConfig]:
    """Return the experiment and its phase to be measured."""
    name = work.network.removesuffix("_head")
    config = parse(importlib.import_module(f"configs.{name}").get_config(), Experiment)
    phase = config.phases[0 if work.network.endswith("_head") else -1]
    assert phase.batch_size == work.recipe.batch_size
    assert phase.optimizer.name == work.recipe.optimizer
    assert phase.optimizer.learning_rate == work.recipe.learning_rate
    return config, phase


def _load(work: Work) -> tuple[Batch, Batch]:
    """Return training images, and a few for the validation, which is not timed."""
    images, labels = map(jnp.asarray, make_images(work))
    few = slice(work.recipe.batch_size)
    return Batch(images, labels), Batch(images[few], labels[few])


def _reuse_features(
    model: models.Model, phase: Phase, current: TrainState, train: Batch, val: Batch
) -> tuple[ApplyFn, Batch, Batch, float]:
    """Return the rest of the network, its inputs, and the seconds to compute these.

    The seconds exclude compilation, as those of an epoch do.
    """
    stop = features.frozen_stages(model, phase, current.params)
    known = features.Features(
        model,
        stop,
        current.params,
        current.batch_stats,
        devices=parallel.every(),
        batch_size=500,
    )
    with tempfile.TemporaryDirectory() as folder:
        os.environ["XDG_CACHE_HOME"] = folder
        known.of(train)
        shutil.rmtree(folder)
        begin = time.perf_counter()
        found = jax.block_until_ready(known.of(train))
        seconds = time.perf_counter() - begin
        few = known.of(val)
    return functools.partial(model.apply, start=stop), found, few, seconds


def versions() -> dict[str, str]:
    """Return the versions of JAX and Flax."""
    return {name: importlib.metadata.version(name) for name in ("jax", "flax")}
