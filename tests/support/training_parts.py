"""What tests of the training share: phases, steps and states, and a tiny network."""

import dataclasses
import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike
from rich.console import Console

from configs import base
from mnist_jax import config, models
from mnist_jax.console import TrainingProgress
from mnist_jax.data import DIGITS
from mnist_jax.models import layers
from mnist_jax.training import monitors, phase, state, step
from mnist_jax.training.evaluator import Evaluator
from mnist_jax.training.keys import make_keys
from mnist_jax.training.trainer import NonFiniteLossError, Trainer
from tests.support.drawing import draw_weights

KEY = jax.random.key(1)


class Tiny(nn.Module):
    """One of everything that a network here has; it compiles fast, in a loop too."""

    num_classes: int
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, images, *, train):
        x = layers.average_pool(images, 2)
        x = nn.relu(layers.Conv(4, (3, 3), padding="SAME", name="conv")(x))
        x = layers.BatchNorm(name="norm")(x, use_running_average=not train)
        x = layers.max_pool(x, 2)
        x = layers.Dropout(0.25)(x, train=train)
        return layers.Dense(self.num_classes, name="logits")(x.reshape(x.shape[0], -1))


TINY = models.Model("tiny", Tiny(num_classes=10), DIGITS)
EVERYTHING = {
    "batch_size": 12,
    "epochs": 2,
    "ema_decay": 0.3,
    "label_smoothing": 0.1,
    "optimizer.name": "rmsprop",
    "optimizer.clip_norm": 1.0,
    "schedule.name": "cosine",
    "schedule.warmup_epochs": 0.4,
    "plateau.monitor": "val_loss",
    "early_stopping.monitor": "val_loss",
    "early_stopping.restore_best": True,
}


def make_phase(**fields):
    values = base.get_phase()
    values.update_from_flattened_dict(fields)
    return phase.create(config.parse(values, config.Phase))


def make_step(apply_fn, phase, *, steps_per_epoch=5, **fields):
    """The step as `Trainer` makes it."""
    return step.make_train_step(
        apply_fn=apply_fn,
        loss_fn=fields.pop("loss_fn", TINY.loss),
        optimizer=phase.optimizer,
        learning_rate_fn=phase.learning_rate_fn(steps_per_epoch),
        label_smoothing=phase.config.label_smoothing,
        ema_decay=phase.config.ema_decay,
        groups=phase.groups,
        **fields,
    )


@functools.cache
def weights(model):
    return draw_weights(model)


def make_state(model, phase):
    """Copies of the weights: a step may be given the state's buffers."""
    params, batch_stats = monitors.copy(weights(model))
    return state.create(params, batch_stats, phase)


def make_trainer(
    phase, dataset, *, experiment=None, model=TINY, devices=None, seeds=(0,), state=None
):
    """A trainer, for one seed or several, which shows nothing."""
    experiment = experiment or dataclasses.replace(
        config.Experiment(), steps_per_call=1, eval_batch_size=30
    )
    return Trainer(
        experiment,
        model,
        phase,
        dataset,
        states=[state or make_state(model, phase)] * len(seeds),
        keys=[make_keys(seed) for seed in seeds],
        evaluator=Evaluator.of_model(model, experiment),
        progress=TrainingProgress(Console(quiet=True), epochs=phase.config.epochs),
        devices=devices,
    )


def run_epoch(trainer, current, epoch):
    """Train the only seed; return the state and the epoch's records."""
    current, [outcome] = trainer.epoch(current, [epoch])
    assert not isinstance(outcome, NonFiniteLossError)
    return current, outcome


def as_batch(split):
    return step.Batch(jnp.asarray(split.images), jnp.asarray(split.labels))


def assert_close(first, second, tolerance):
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=0, atol=tolerance),
        first,
        second,
    )


def largest_difference(first, second):
    differences = jax.tree.map(lambda a, b: np.abs(a - b).max(), first, second)
    return max(jax.tree.leaves(differences))
