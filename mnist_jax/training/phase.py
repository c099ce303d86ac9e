"""A phase of training, as the config describes it: checked, and built once."""

import dataclasses
from collections.abc import Sequence

import optax

from mnist_jax.config import ConfigError
from mnist_jax.config import Phase as PhaseConfig
from mnist_jax.errors import UserError
from mnist_jax.training import optimizer, schedules
from mnist_jax.training.freezing import Freeze
from mnist_jax.training.layer_rates import LayerRates
from mnist_jax.training.monitors import EarlyStoppingMachine, PlateauMachine
from mnist_jax.tree import Tree


@dataclasses.dataclass(frozen=True)
class Phase:
    """One stretch of training with one optimizer.

    Attributes:
        name: for people.
        epochs: the most that it takes.
        batch_size: images a step.
        from_best: whether it begins with the best epoch's weights, not the last one's.
        label_smoothing: share of the label spread over all digits.
        ema_decay: of the moving average of the weights; 0 for none.
        freeze: which parameters stay as they are.
        layer_rates: which learn at a share of the learning rate.
        reuse_features: whether frozen first stages are computed once, if possible.
        optimizer: from gradients to directions; knows nothing of the frozen ones.
        plateau: lowers the learning rate.
        early_stopping: ends the phase.
        config: what it was built from.
    """

    name: str
    epochs: int
    batch_size: int
    from_best: bool
    label_smoothing: float
    ema_decay: float
    freeze: Freeze
    layer_rates: LayerRates
    reuse_features: bool
    optimizer: optax.GradientTransformation
    plateau: PlateauMachine
    early_stopping: EarlyStoppingMachine
    config: PhaseConfig

    @classmethod
    def from_config(cls, config: PhaseConfig, *, flag: str = "phase") -> "Phase":
        """Build the phase that a config describes.

        Args:
            config: one of the phases of an experiment.
            flag: its name on the command line, for messages: "--config.phases[0]".

        Raises:
            UserError: the fields of the phase contradict each other, or an expression
                in `freeze` or `layer_rates` is not valid.
        """
        schedules.check(config.schedule, epochs=config.epochs, flag=f"{flag}.schedule")
        freeze = Freeze(config.freeze, flag=f"{flag}.freeze")
        layer_rates = LayerRates(config.layer_rates, flag=f"{flag}.layer_rates")
        return cls(
            name=config.name,
            epochs=config.epochs,
            batch_size=config.batch_size,
            from_best=config.start_from == "best",
            label_smoothing=config.label_smoothing,
            ema_decay=config.ema_decay,
            freeze=freeze,
            layer_rates=layer_rates,
            reuse_features=config.reuse_features == "auto",
            optimizer=freeze.wrap(
                layer_rates.wrap(
                    optimizer.create(config.optimizer, flag=f"{flag}.optimizer")
                )
            ),
            plateau=PlateauMachine(
                config.plateau,
                learning_rate=config.optimizer.learning_rate,
                flag=f"{flag}.plateau",
            ),
            early_stopping=EarlyStoppingMachine(
                config.early_stopping, flag=f"{flag}.early_stopping"
            ),
            config=config,
        )

    def check_names(self, params: Tree) -> None:
        """Refuse names of parameters that do not fit a network.

        Args:
            params: the network's, or their shapes.

        Raises:
            UserError: with the field and the network's layers.
        """
        self.freeze.check(params)
        self.layer_rates.check(params)

    def steps_per_epoch(self, train_size: int) -> int:
        """Return the steps of an epoch over so many images."""
        return train_size // self.batch_size

    def learning_rate_fn(self, steps_per_epoch: int) -> optax.Schedule:
        """Return the function from a step of the phase to its learning rate."""
        return schedules.create(
            self.config.schedule,
            peak=self.config.optimizer.learning_rate,
            epochs=self.epochs,
            steps_per_epoch=steps_per_epoch,
        )


def make_phases(configs: Sequence[PhaseConfig]) -> list[Phase]:
    """Build the phases of an experiment.

    Raises:
        UserError: there are none, or one cannot be built; see `Phase.from_config`.
    """
    if not configs:
        raise ConfigError("--config.phases is empty: there is nothing to train.")
    return [
        Phase.from_config(config, flag=f"--config.phases[{index}]")
        for index, config in enumerate(configs)
    ]


def check_batch_size(phase: Phase, index: int, *, train_size: int) -> None:
    """Refuse a batch that the training set cannot fill even once.

    Raises:
        UserError: with both sizes.
    """
    if phase.batch_size > train_size:
        raise UserError(
            f"--config.phases[{index}].batch_size={phase.batch_size}: there are only "
            f"{train_size} images to train on."
        )
