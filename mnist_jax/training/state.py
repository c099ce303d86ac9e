"""The training state: everything that a checkpoint must contain, and nothing else."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
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
    run draws the same numbers as an uninterrupted one. Whoever changes the fields must
    raise `mnist_jax.runs.checkpoint.VERSION`.

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


def create(params: Tree, batch_stats: Tree, phase: Phase) -> TrainState:
    """Return the state before the first step."""
    # Which figure decides matters for updates alone.
    best = monitors.keep_best("val_loss").init(params, batch_stats)
    return _begin(jnp.zeros((), jnp.int32), params, batch_stats, phase, best)


def make_watch(
    phase: Phase, best_monitor: str
) -> Callable[[TrainState, Figures, Int32[Array, ""]], dict[str, Any]]:
    """Build `watch(state, figures, epoch)`, which updates the monitors after an epoch.

    It returns the fields of the state that change.

    Args:
        phase: the phase of the epoch.
        best_monitor: the figure that decides which epoch is the best.
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
    the best epoch so far is kept.

    Args:
        state: at the end of the previous phase, from `end_phase`.
        phase: the new one.
    """
    source = state.best if phase.config.start_from == "best" else state
    params, batch_stats = monitors.copy((source.params, source.batch_stats))
    return _begin(state.step, params, batch_stats, phase, state.best)


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


def stack(states: Sequence[TrainState], count: int) -> TrainState:
    """Return the states of several seeds as one, on the host, with a leading axis.

    Args:
        states: of the seeds, in the same phase.
        count: length of the axis; the last state is repeated to fill it. If 1, there is
            no axis, and the only state is returned unchanged.
    """
    if count == 1:
        return states[0]
    filled = [*states, *[states[-1]] * (count - len(states))]
    return jax.tree.map(lambda *leaves: np.stack(leaves), *jax.device_get(filled))


def unstack(state: TrainState, count: int) -> list[TrainState]:
    """Return the states that `stack` combined with the same count."""
    if count == 1:
        return [state]
    on_host = jax.device_get(state)
    # Copies: a seed that has ended must not keep the states of all others alive.
    return [
        jax.tree.map(lambda leaf: np.array(leaf[index]), on_host)  # noqa: B023
        for index in range(count)
    ]


def _begin(
    step: Int32[Array, ""],
    params: Tree,
    batch_stats: Tree,
    phase: Phase,
    best: BestState,
) -> TrainState:
    averages = phase.config.ema_decay > 0
    return TrainState(
        step=step,
        phase_step=jnp.zeros((), jnp.int32),
        params=params,
        batch_stats=batch_stats,
        ema=monitors.copy((params, batch_stats)) if averages else (),
        opt_state=phase.optimizer.init(params),
        plateau=phase.plateau.init(),
        early_stopping=phase.early_stopping.init(params, batch_stats),
        best=best,
    )
