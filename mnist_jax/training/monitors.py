"""What watches the training from epoch to epoch: pure state machines on jax arrays.

Best-so-far, reduce-on-plateau and early stopping are functions `(state, figures of an
epoch) -> state`, with no Python `if` on a value, so that all of them can run under
`vmap` over seeds. What counts as better is Keras's arithmetic, in float32: for a loss,
`value + min_delta < best`; the first epoch always counts; nothing is better than NaN.
"""

import operator
from collections.abc import Callable, Mapping
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import optax
import optax.contrib
from jaxtyping import Array, Bool, Float32, Int32

from mnist_jax.config import OFF, ConfigError
from mnist_jax.config import EarlyStopping as EarlyStoppingConfig
from mnist_jax.config import Plateau as PlateauConfig
from mnist_jax.tree import Tree

# The figures of an epoch that can be watched, and whether lower or higher is better.
MONITORS: dict[str, Callable[[Any, Any], Any]] = {
    "train_loss": operator.lt,
    "val_loss": operator.lt,
    "val_accuracy": operator.gt,
}

Figures = Mapping[str, Float32[Array, ""]]


def is_better(
    monitor: str,
    value: Float32[Array, ""],
    best: Float32[Array, ""],
    min_delta: float = 0.0,
) -> Bool[Array, ""]:
    """Say whether `value` is better than `best` by more than `min_delta`."""
    better = MONITORS[monitor]
    sign = 1 if better is operator.lt else -1
    return better(value + sign * jnp.float32(min_delta), best)


class Best(flax.struct.PyTreeNode):
    """The best epoch so far.

    Attributes:
        value: the monitored figure then; NaN before the first epoch.
        epoch: which one, counted from 1; 0 before the first.
        params: the weights at its end.
        batch_stats: BatchNorm's statistics at its end.
    """

    value: Float32[Array, ""]
    epoch: Int32[Array, ""]
    params: Tree
    batch_stats: Tree

    @classmethod
    def none(cls, params: Tree, batch_stats: Tree) -> "Best":
        """Return the state before the first epoch, holding copies of the weights."""
        params, batch_stats = copy((params, batch_stats))
        return cls(
            value=jnp.array(jnp.nan, jnp.float32),
            epoch=jnp.zeros((), jnp.int32),
            params=params,
            batch_stats=batch_stats,
        )


def make_update_best(*, monitor: str, min_delta: float = 0.0) -> Callable[..., Best]:
    """Build the function that keeps the best epoch by `monitor`.

    It is `update(best, figures, epoch, params, batch_stats) -> best`, where `figures`
    maps every name in `MONITORS` to a scalar. The first epoch always counts; a later
    one only if strictly better, so that of equals the earliest stays.
    """

    def update_best(
        best: Best,
        figures: Figures,
        epoch: Int32[Array, ""],
        params: Tree,
        batch_stats: Tree,
    ) -> Best:
        value = jnp.asarray(figures[monitor], jnp.float32)
        better = (best.epoch == 0) | is_better(monitor, value, best.value, min_delta)
        candidate = Best(
            value=value,
            epoch=jnp.asarray(epoch, jnp.int32),
            params=params,
            batch_stats=batch_stats,
        )
        return select(better, candidate, best)

    return update_best


class Plateau(flax.struct.PyTreeNode):
    """Whether the learning rate is to be lowered, and how far it has been.

    Attributes:
        epochs: how many it has seen.
        value: the best figure so far; NaN before the first epoch.
        reduction: optax's state; its `scale` multiplies the learning rate.
    """

    epochs: Int32[Array, ""]
    value: Float32[Array, ""]
    reduction: optax.contrib.ReduceLROnPlateauState

    @property
    def scale(self) -> Float32[Array, ""]:
        """The factor that the learning rate has come down to, from 1."""
        return jnp.asarray(self.reduction.scale)


class PlateauMachine:
    """Keras's ReduceLROnPlateau, by `optax.contrib.reduce_on_plateau`.

    Args:
        config: the fields of a phase's `plateau`.
        learning_rate: the phase's largest learning rate.
        flag: the name of the config on the command line, for messages.

    Raises:
        ConfigError: `min_learning_rate` is above the learning rate.
    """

    def __init__(
        self, config: PlateauConfig, *, learning_rate: float, flag: str = "plateau"
    ):
        if config.monitor != OFF and config.min_learning_rate > learning_rate:
            raise ConfigError(
                f"{flag}.min_learning_rate={config.min_learning_rate}: above the "
                f"learning rate, {learning_rate}."
            )
        self._monitor, self._min_delta = config.monitor, config.min_delta
        self._transform = optax.contrib.reduce_on_plateau(
            factor=config.factor,
            # To Keras a patience of 0 is one of 1; optax would reduce at improvements.
            patience=max(config.patience, 1),
            # Keras counts the last epoch of a cooldown again, optax does not.
            cooldown=max(config.cooldown - 1, 0),
            min_scale=min(config.min_learning_rate / learning_rate, 1.0),
            rtol=0.0,
            atol=0.5,
        )

    def init(self) -> Plateau:
        """Return the state before the first epoch of a phase."""
        return Plateau(
            epochs=jnp.zeros((), jnp.int32),
            value=jnp.array(jnp.nan, jnp.float32),
            reduction=self._transform.init(jnp.zeros(())),  # type: ignore[arg-type]
        )

    def update(self, state: Plateau, figures: Figures) -> Plateau:
        """Take note of an epoch; `figures` as for `make_update_best`."""
        if self._monitor == OFF:
            return state
        value = jnp.asarray(figures[self._monitor], jnp.float32)
        epochs = state.epochs + 1
        better = (state.epochs == 0) | is_better(
            self._monitor, value, state.value, self._min_delta
        )
        # What is better is decided here, as Keras does; optax, which has a rule of its
        # own, is told a new low where something is better, and otherwise infinity.
        told = jnp.where(better, -epochs.astype(jnp.float32), jnp.inf)
        _, reduction = self._transform.update((), state.reduction, value=told)
        return Plateau(
            epochs=epochs,
            value=jnp.where(better, value, state.value),
            reduction=reduction,  # type: ignore[arg-type]
        )


class EarlyStopping(flax.struct.PyTreeNode):
    """Whether the phase is to end.

    Attributes:
        wait: epochs since the best.
        stopped: whether the phase is to end.
        best: the best epoch of the phase; its weights are empty unless they are to be
            restored.
    """

    wait: Int32[Array, ""]
    stopped: Bool[Array, ""]
    best: Best


class EarlyStoppingMachine:
    """Keras's EarlyStopping.

    Args:
        config: the fields of a phase's `early_stopping`.
        flag: the name of the config on the command line, for messages.

    Raises:
        ConfigError: the best weights are to be restored, but nothing is monitored.
    """

    def __init__(self, config: EarlyStoppingConfig, *, flag: str = "early_stopping"):
        if config.restore_best and config.monitor == OFF:
            raise ConfigError(
                f"{flag}.restore_best: {flag}.monitor must say what the best is by."
            )
        self._monitor, self._patience = config.monitor, config.patience
        self.restore_best = config.restore_best
        if config.monitor != OFF:
            self._update_best = make_update_best(
                monitor=config.monitor, min_delta=config.min_delta
            )

    def init(self, params: Tree, batch_stats: Tree) -> EarlyStopping:
        """Return the state before the first epoch of a phase."""
        return EarlyStopping(
            wait=jnp.zeros((), jnp.int32),
            stopped=jnp.zeros((), jnp.bool_),
            best=Best.none(*self._kept(params, batch_stats)),
        )

    def update(
        self,
        state: EarlyStopping,
        figures: Figures,
        epoch: Int32[Array, ""],
        params: Tree,
        batch_stats: Tree,
    ) -> EarlyStopping:
        """Take note of an epoch; the arguments are those of `make_update_best`'s."""
        if self._monitor == OFF:
            return state
        best = self._update_best(
            state.best, figures, epoch, *self._kept(params, batch_stats)
        )
        better = best.epoch == epoch
        wait = jnp.where(better, 0, state.wait + 1)
        stopped = state.stopped | (~better & (wait >= self._patience))
        return EarlyStopping(wait=wait, stopped=stopped, best=best)

    def _kept(self, params: Tree, batch_stats: Tree) -> tuple[Tree, Tree]:
        return (params, batch_stats) if self.restore_best else ({}, {})


def select(condition: Bool[Array, ""], first: Any, second: Any) -> Any:
    """Return the tree `first` where the condition holds, otherwise `second`."""
    return jax.tree.map(lambda a, b: jnp.where(condition, a, b), first, second)


def copy(tree: Any) -> Any:
    """Copy the arrays of a tree, since the step donates its state's buffers."""
    return jax.tree.map(lambda leaf: jnp.array(leaf, copy=True), tree)
