"""A phase of training, built from its config and checked."""

import dataclasses
from collections.abc import Sequence

import jax
import optax

from mnist_jax import config, models
from mnist_jax.config import ConfigError
from mnist_jax.errors import UserError
from mnist_jax.training import monitors, optimizer, schedules
from mnist_jax.training.groups import Groups
from mnist_jax.training.monitors import Monitor
from mnist_jax.tree import Tree


@dataclasses.dataclass(frozen=True)
class Phase:
    """A stretch of training with one optimizer.

    Attributes:
        config: the fields of `config.Phase`.
        groups: the parameters that are not trained, or have their own learning rate.
        optimizer: from gradients to directions.
        plateau: reduces the learning rate.
        early_stopping: ends the phase.
    """

    config: config.Phase
    groups: Groups
    optimizer: optax.GradientTransformation
    plateau: Monitor
    early_stopping: Monitor

    @property
    def name(self) -> str:
        """The name of the phase in messages and in metrics.jsonl."""
        return self.config.name

    def describe(self, params: Tree) -> str:
        """Return a sentence about how many of the parameters the phase trains."""
        factors = jax.tree.leaves(self.groups.factors(params))
        sizes = [leaf.size for leaf in jax.tree.leaves(params)]
        trained = sum(size for size, rate in zip(sizes, factors, strict=True) if rate)
        return f"Phase {self.name} trains {trained:,} of {sum(sizes):,} parameters."

    def steps_per_epoch(self, train_size: int) -> int:
        """Return the number of steps of an epoch with `train_size` training images."""
        return self.config.steps_per_epoch or train_size // self.config.batch_size

    def learning_rate_fn(self, steps_per_epoch: int) -> optax.Schedule:
        """Return the function from a step of the phase to its learning rate."""
        return schedules.create(
            self.config.schedule,
            peak=self.config.optimizer.learning_rate,
            epochs=self.config.epochs,
            steps_per_epoch=steps_per_epoch,
        )


def create(fields: config.Phase, *, flag: str = "phase") -> Phase:
    """Build the phase that a config describes.

    `flag` is its name on the command line, for messages, such as "--config.phases[0]".

    Raises:
        UserError: the fields contradict each other, or an expression in `freeze` or
            `layer_rates` is not valid.
    """
    schedules.check(fields.schedule, epochs=fields.epochs, flag=f"{flag}.schedule")
    groups = Groups(fields.freeze, fields.layer_rates, flag=flag)
    return Phase(
        config=fields,
        groups=groups,
        optimizer=groups.wrap(
            optimizer.create(fields.optimizer, flag=f"{flag}.optimizer")
        ),
        plateau=monitors.reduce_on_plateau(
            fields.plateau,
            learning_rate=fields.optimizer.learning_rate,
            flag=f"{flag}.plateau",
        ),
        early_stopping=monitors.early_stopping(
            fields.early_stopping, flag=f"{flag}.early_stopping"
        ),
    )


def create_all(phases: Sequence[config.Phase], params: Tree) -> list[Phase]:
    """Build the phases of an experiment for a network's parameters, or their shapes.

    Raises:
        UserError: the list is empty, a phase cannot be built (see `create`), or an
            expression for parameters does not fit the network.
    """
    if not phases:
        raise ConfigError("--config.phases is empty: there is nothing to train.")
    created = [
        create(fields, flag=f"--config.phases[{index}]")
        for index, fields in enumerate(phases)
    ]
    for phase in created:
        phase.groups.check(params)
    return created


def check_batch_sizes(phases: Sequence[Phase], *, train_size: int) -> None:
    """Raise a UserError if there are too few training images for a batch."""
    for index, phase in enumerate(phases):
        if phase.config.batch_size > train_size:
            raise UserError(
                f"--config.phases[{index}].batch_size={phase.config.batch_size}: there "
                f"are only {train_size} images to train on."
            )


def check_label_smoothing(phases: Sequence[Phase], model: models.Model) -> None:
    """Raise a ConfigError if labels are to be smoothed and the loss cannot do that."""
    for index, phase in enumerate(phases):
        share = phase.config.label_smoothing
        if share and not model.can_smooth_labels:
            raise ConfigError(
                f"--config.phases[{index}].label_smoothing={share:g}: the loss of "
                f"{model.name} does not smooth labels. Set it to 0."
            )
