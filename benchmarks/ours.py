"""This project's own loop, as run.py uses it."""

import importlib
import importlib.metadata

import jax
import jax.numpy as jnp

from benchmarks.work import BATCH_SIZE, Work, make_images
from mnist_jax import augment, models
from mnist_jax.training import loop, parallel, state
from mnist_jax.training.phase import Phase
from mnist_jax.training.step import Batch


class _Silence:
    def compiling(self) -> None:
        pass

    def compiled(self, seconds: float) -> None:
        pass

    def steps_done(self, epoch: int, step: int, steps: int, loss: float) -> None:
        pass


def prepare(work: Work):
    """Build the trainer of the report's recipe; see `work.prepare`."""
    config = importlib.import_module(f"configs.{work.network}").get_config()
    config.augment.update(
        dict.fromkeys(("rotation", "zoom", "shift"), 0.0)
        if not work.augmented
        else {"rotation": 10.0, "zoom": 0.1, "shift": 0.1}
    )
    (fields,) = config.phases
    assert fields.batch_size == BATCH_SIZE
    model = models.create(config.model, dtype=config.dtype)
    phase = Phase.from_config(fields)
    keys = loop.make_keys(0)
    images, labels = map(jnp.asarray, make_images(work))
    trainer = loop.Trainer(
        apply_fn=model.apply,
        phase=phase,
        data=Batch(images, labels),
        val=Batch(images[:BATCH_SIZE], labels[:BATCH_SIZE]),
        augment_fn=augment.create(config.augment),
        devices=parallel.choose(config.parallel, BATCH_SIZE),
        eval_batch_size=BATCH_SIZE,
        steps_per_call=0,
        monitor="val_loss",
        keys=keys,
        listener=_Silence(),
    )
    current = jax.jit(lambda: state.create(*model.init(keys.init), phase))()
    epoch = 0

    def run() -> float:
        nonlocal current, epoch
        epoch += 1
        current, (record, _) = trainer.run_epoch(current, epoch)
        return record["seconds"]

    return run


def versions() -> dict[str, str]:
    """Return the versions of JAX and Flax."""
    return {name: importlib.metadata.version(name) for name in ("jax", "flax")}
