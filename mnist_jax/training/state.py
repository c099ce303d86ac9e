"""The training state: everything that a checkpoint must contain, and nothing else."""

import functools
from collections.abc import Callable
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Int32, PRNGKeyArray

from mnist_jax import models
from mnist_jax.devices import compiler
from mnist_jax.training import monitors
from mnist_jax.training.monitors import BestState, EarlyStoppingState, Figures
from mnist_jax.training.phase import Phase
from mnist_jax.tree import Tree


class TrainState(flax.struct.PyTreeNode):
    """The training at the end of a step.

    It has no random key: keys are folded from the seed and the step, so that a resumed
    run draws the same numbers as an uninterrupted one. If the fields change,
    `mnist_jax.runs.checkpoint.VERSION` must be raised.

    Attributes:
        step: steps done since the beginning of the run, over all phases.
        phase_step: steps done in this phase.
        params: the parameters that the optimizer changes.
        batch_stats: BatchNorm's running statistics; empty without BatchNorm.
        ema: moving averages of these two, as a pair; an empty tuple without.
        opt_state: the optimizer's state.
        plateau: the reductions of the learning rate in this phase; its `scale`
            multiplies the schedule's learning rate.
        early_stopping: whether this phase is to end.
        best: the weights of the best epoch so far, over all phases.
    """

    step: Int32[Array, ""]
    phase_step: Int32[Array, ""]
    params: Tree
    batch_stats: Tree
    ema: tuple[Tree, ...]
    opt_state: optax.OptState
    plateau: Any
    early_stopping: EarlyStoppingState
    best: BestState

    @property
    def weights(self) -> tuple[Tree, Tree]:
        """The `(params, batch_stats)` to evaluate: the moving averages, if any."""
        if self.ema:
            params, batch_stats = self.ema
            return params, batch_stats
        return self.params, self.batch_stats


def make_begin(
    model: models.Model,
    phase: Phase,
    put: Callable[[Tree, Tree], tuple[Tree, Tree]] | None = None,
) -> Callable[[PRNGKeyArray], TrainState]:
    """Build `begin(key)`, which returns the state before the first step.

    Args:
        model: the network, whose parameters are drawn with the key.
        phase: the first one.
        put: replaces some of the drawn `(params, batch_stats)`, if given.
    """
    options = compiler.short_program_options()
    init = jax.jit(model.init, compiler_options=options)
    complete = jax.jit(functools.partial(create, phase=phase), compiler_options=options)

    def begin(key: PRNGKeyArray) -> TrainState:
        drawn = init(key)
        return complete(*(put(*drawn) if put else drawn))

    return begin


def shapes(model: models.Model, phase: Phase) -> TrainState:
    """Return the state in a phase, with a `jax.ShapeDtypeStruct` for each array."""
    return jax.eval_shape(functools.partial(create, phase=phase), *model.shapes)


def create(
    params: Tree,
    batch_stats: Tree,
    phase: Phase,
    *,
    step: Int32[Array, ""] | int = 0,
    best: BestState | None = None,
) -> TrainState:
    """Return the state at the start of a phase, by default of the first one."""
    averages = phase.config.ema_decay > 0
    return TrainState(
        step=jnp.asarray(step, jnp.int32),
        phase_step=jnp.zeros((), jnp.int32),
        params=params,
        batch_stats=batch_stats,
        ema=monitors.copy((params, batch_stats)) if averages else (),
        opt_state=phase.optimizer.init(params),
        plateau=phase.plateau.init(),
        early_stopping=phase.early_stopping.init(params, batch_stats),
        # Which figure decides matters for updates alone.
        best=best or monitors.keep_best("val_loss").init(params, batch_stats),
    )


def make_watch(
    phase: Phase, best_monitor: str
) -> Callable[[TrainState, Figures, Int32[Array, ""]], dict[str, Any]]:
    """Build `watch(state, figures, epoch)`, which updates the monitors after an epoch.

    It returns the fields of the state that change. `best_monitor` is the figure that
    decides which epoch is the best.
    """
    best = monitors.keep_best(best_monitor)

    def watch(
        state: TrainState, figures: Figures, epoch: Int32[Array, ""]
    ) -> dict[str, Any]:
        weights = state.weights
        return {
            "best": best.update(state.best, figures, epoch, *weights),
            "plateau": phase.plateau.update(state.plateau, figures),
            "early_stopping": phase.early_stopping.update(
                state.early_stopping, figures, epoch, *weights
            ),
        }

    return watch


def begin_phase(state: TrainState, phase: Phase) -> TrainState:
    """Return the state at the start of a later phase.

    Optimizer, learning rate and monitors start again; the count of steps continues, and
    the best epoch so far is kept. The given state is from `end_phase`.
    """
    source = state.best if phase.config.start_from == "best" else state
    params, batch_stats = monitors.copy((source.params, source.batch_stats))
    return create(params, batch_stats, phase, step=state.step, best=state.best)


def end_phase(state: TrainState, phase: Phase) -> TrainState:
    """Return the state with the weights that the phase ends with.

    These are the evaluated ones (the moving averages, if any) or, if early stopping
    restores them, those of the phase's best epoch.
    """
    best = state.early_stopping.best
    params, batch_stats = (
        (best.params, best.batch_stats)
        if phase.config.early_stopping.restore_best
        else state.weights
    )
    return state.replace(params=params, batch_stats=batch_stats, ema=())
