"""The monitors, which follow the training from epoch to epoch.

Keeping the best epoch, reducing the learning rate on a plateau and early stopping are
pairs of pure functions, as in optax: `init` returns a state, and `update` maps a state
and the figures of an epoch to the next state. No Python `if` depends on a value, so
that all of them can run under `vmap` over seeds.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import optax.contrib
from jaxtyping import Array, Bool, Float32, Int32

from mnist_jax.config import OFF, ConfigError, EarlyStopping, Plateau
from mnist_jax.tree import Tree

# The figures of an epoch that can be monitored, and the sign that makes lower better.
SIGNS = {"train_loss": 1, "val_loss": 1, "val_accuracy": -1}

Figures = Mapping[str, Float32[Array, ""]]
"""A value for each name in `SIGNS`."""


class Monitor(NamedTuple):
    """A pair of pure functions, `init` and `update`."""

    init: Callable[..., Any]
    update: Callable[..., Any]


class BestState(flax.struct.PyTreeNode):
    """The best epoch so far.

    Attributes:
        value: the monitored figure of that epoch; NaN before the first epoch.
        epoch: its number, counted from 1; 0 before the first.
        params: the weights at its end.
        batch_stats: BatchNorm's statistics at its end.
    """

    value: Float32[Array, ""]
    epoch: Int32[Array, ""]
    params: Tree
    batch_stats: Tree


class EarlyStoppingState(flax.struct.PyTreeNode):
    """Whether the phase is to end.

    Attributes:
        wait: epochs since the best.
        stopped: whether the phase is to end.
        best: the best epoch of the phase; its weights are empty unless they are to be
            restored.
    """

    wait: Int32[Array, ""]
    stopped: Bool[Array, ""]
    best: BestState


def keep_best(name: str, min_delta: float = 0.0) -> Monitor:
    """Build the monitor that keeps the weights of the best epoch.

    The first epoch always counts; a later one only if it is better by more than
    `min_delta`, so that the earliest of equal epochs stays. The comparison is that of
    Keras's EarlyStopping, in float32: for a loss, `value + min_delta < best`.

    Args:
        name: of the monitored figure.
        min_delta: the smallest change that counts as an improvement, at least 0.

    Returns:
        `init(params, batch_stats)` and
        `update(state, figures, epoch, params, batch_stats)`.
    """

    def init(params: Tree, batch_stats: Tree) -> BestState:
        params, batch_stats = copy((params, batch_stats))
        return BestState(
            value=jnp.array(jnp.nan, jnp.float32),
            epoch=jnp.zeros((), jnp.int32),
            params=params,
            batch_stats=batch_stats,
        )

    def update(
        state: BestState,
        figures: Figures,
        epoch: Int32[Array, ""],
        params: Tree,
        batch_stats: Tree,
    ) -> BestState:
        value, sign = jnp.asarray(figures[name], jnp.float32), SIGNS[name]
        improved = sign * value + jnp.float32(min_delta) < sign * state.value
        better = (state.epoch == 0) | improved
        candidate = BestState(
            value=value,
            epoch=jnp.asarray(epoch, jnp.int32),
            params=params,
            batch_stats=batch_stats,
        )
        return jax.tree.map(lambda a, b: jnp.where(better, a, b), candidate, state)

    return Monitor(init, update)


def reduce_on_plateau(
    config: Plateau, *, learning_rate: float, flag: str = "plateau"
) -> Monitor:
    """Build Keras's ReduceLROnPlateau from `optax.contrib.reduce_on_plateau`.

    Args:
        config: the fields of a phase's `plateau`.
        learning_rate: the phase's largest learning rate.
        flag: the name of the config on the command line, for messages.

    Returns:
        `init()`, a state whose `scale` is the factor of the learning rate, and
        `update(state, figures)`.

    Raises:
        ConfigError: `min_learning_rate` is above the learning rate.
    """
    name = config.monitor
    if name != OFF and config.min_learning_rate > learning_rate:
        raise ConfigError(
            f"{flag}.min_learning_rate={config.min_learning_rate}: above the learning "
            f"rate, {learning_rate}."
        )
    transform = optax.contrib.reduce_on_plateau(
        factor=config.factor,
        # Keras treats a patience of 0 as 1; optax would reduce at improvements.
        patience=max(config.patience, 1),
        # Keras counts the last epoch of a cooldown again, optax does not.
        cooldown=max(config.cooldown - 1, 0),
        min_scale=min(config.min_learning_rate / learning_rate, 1.0),
        rtol=0.0,
        atol=config.min_delta or float(np.finfo(np.float32).tiny),  # 0 is refused
    )

    def init() -> Any:
        return transform.init(jnp.zeros(()))  # type: ignore[arg-type]

    def update(state: Any, figures: Figures) -> Any:
        if name == OFF:
            return state
        value = SIGNS[name] * jnp.asarray(figures[name], jnp.float32)
        return transform.update((), state, value=value)[1]

    return Monitor(init, update)


def early_stopping(config: EarlyStopping, *, flag: str = "early_stopping") -> Monitor:
    """Build Keras's EarlyStopping, with the functions of `keep_best`.

    `flag` is the name of the config on the command line, for messages.

    Raises:
        ConfigError: the best weights are to be restored, but nothing is monitored.
    """
    if config.restore_best and config.monitor == OFF:
        raise ConfigError(
            f"{flag}.restore_best: {flag}.monitor must name the figure that decides "
            "which epoch is the best."
        )
    best = keep_best(config.monitor, config.min_delta)

    def kept(*weights: Tree) -> tuple[Tree, ...]:
        return weights if config.restore_best else ({}, {})

    def init(params: Tree, batch_stats: Tree) -> EarlyStoppingState:
        return EarlyStoppingState(
            wait=jnp.zeros((), jnp.int32),
            stopped=jnp.zeros((), jnp.bool_),
            best=best.init(*kept(params, batch_stats)),
        )

    def update(
        state: EarlyStoppingState,
        figures: Figures,
        epoch: Int32[Array, ""],
        params: Tree,
        batch_stats: Tree,
    ) -> EarlyStoppingState:
        if config.monitor == OFF:
            return state
        found = best.update(state.best, figures, epoch, *kept(params, batch_stats))
        improved = found.epoch == epoch
        wait = jnp.where(improved, 0, state.wait + 1)
        stopped = state.stopped | (~improved & (wait >= config.patience))
        return EarlyStoppingState(wait=wait, stopped=stopped, best=found)

    return Monitor(init, update)


def copy(tree: Any) -> Any:
    """Copy the arrays of a tree, since the step donates its state's buffers."""
    return jax.tree.map(lambda leaf: jnp.array(leaf, copy=True), tree)
