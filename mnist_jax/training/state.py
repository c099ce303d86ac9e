"""Everything that a checkpoint must hold of the training, and nothing else."""

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
from mnist_jax.training.monitors import (
    Best,
    EarlyStopping,
    Figures,
    Plateau,
    copy,
    make_update_best,
)
from mnist_jax.training.phase import Phase
from mnist_jax.tree import Tree


class TrainState(flax.struct.PyTreeNode):
    """The training at the end of a step.

    There is no random key in it: keys are folded from the seed and the step, so that a
    resumed run draws what an uninterrupted one would.

    Attributes:
        step: steps done since the beginning of the run, through all phases.
        phase_step: steps done in this phase.
        params: what the optimizer changes.
        batch_stats: BatchNorm's running statistics; empty without BatchNorm.
        ema: moving averages of these two, as a pair; an empty tuple without.
        opt_state: the optimizer's.
        plateau: the learning rate's reductions in this phase.
        early_stopping: whether this phase is to end.
        best: the weights of the best epoch so far, through all phases.
    """

    step: Int32[Array, ""]
    phase_step: Int32[Array, ""]
    params: Tree
    batch_stats: Tree
    ema: tuple[Tree, ...]
    opt_state: optax.OptState
    plateau: Plateau
    early_stopping: EarlyStopping
    best: Best

    @property
    def weights(self) -> tuple[Tree, Tree]:
        """The `(params, batch_stats)` to judge: the moving averages if there are."""
        if self.ema:
            params, batch_stats = self.ema
            return params, batch_stats
        return self.params, self.batch_stats


def make_begin(
    model: models.Model,
    phase: Phase,
    put: Callable[[Tree, Tree], tuple[Tree, Tree]] | None = None,
) -> Callable[[PRNGKeyArray], TrainState]:
    """Build `begin(key)`: the state before the first step.

    Args:
        model: the network, whose parameters the key draws.
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
    zero = jnp.zeros((), jnp.int32)
    best = Best.none(params, batch_stats)
    return _begin(zero, params, batch_stats, phase, best)


def make_watch(
    phase: Phase, monitor: str
) -> Callable[[TrainState, Figures, Int32[Array, ""]], dict[str, Any]]:
    """Build `watch(state, figures, epoch)`: what changes at the end of an epoch.

    It returns those fields of the state, the three monitors.
    """
    update_best = make_update_best(monitor=monitor)

    def watch(
        state: TrainState, figures: Figures, epoch: Int32[Array, ""]
    ) -> dict[str, Any]:
        weights = state.weights
        return {
            "best": update_best(state.best, figures, epoch, *weights),
            "plateau": phase.plateau.update(state.plateau, figures),
            "early_stopping": phase.early_stopping.update(
                state.early_stopping, figures, epoch, *weights
            ),
        }

    return watch


def begin_phase(state: TrainState, phase: Phase) -> TrainState:
    """Return the state at the start of a further phase.

    Optimizer, learning rate and monitors start afresh; the steps go on being counted,
    and the best epoch so far stays.

    Args:
        state: at the end of the phase before, as `end_phase` left it.
        phase: the new one.
    """
    source = state.best if phase.from_best else state
    params, batch_stats = copy((source.params, source.batch_stats))
    return _begin(state.step, params, batch_stats, phase, state.best)


def end_phase(state: TrainState, phase: Phase) -> TrainState:
    """Return the state with the weights that the phase ends with.

    These are the ones to judge: the moving averages if there are, or those of the
    phase's best epoch, if it is to restore them.
    """
    best = state.early_stopping.best
    params, batch_stats = (
        (best.params, best.batch_stats)
        if phase.early_stopping.restore_best
        else state.weights
    )
    return state.replace(params=params, batch_stats=batch_stats, ema=())


def stack(states: Sequence[TrainState], count: int) -> TrainState:
    """Return the states of replicas as one, on the host, with a leading axis.

    Args:
        states: of the replicas, in the same phase.
        count: length of the axis; the last state is repeated to fill it. If 1, there is
            no axis, and the only state is returned as it is.
    """
    if count == 1:
        return states[0]
    filled = [*states, *[states[-1]] * (count - len(states))]
    return jax.tree.map(lambda *leaves: np.stack(leaves), *jax.device_get(filled))


def unstack(state: TrainState, count: int) -> list[TrainState]:
    """Return the states that `stack` put together with the same count."""
    if count == 1:
        return [state]
    on_host = jax.device_get(state)
    # Copies: a replica that is done must not keep those of all others alive.
    return [
        jax.tree.map(lambda leaf: np.array(leaf[index]), on_host)  # noqa: B023
        for index in range(count)
    ]


def _begin(
    step: Int32[Array, ""], params: Tree, batch_stats: Tree, phase: Phase, best: Best
) -> TrainState:
    return TrainState(
        step=step,
        phase_step=jnp.zeros((), jnp.int32),
        params=params,
        batch_stats=batch_stats,
        ema=copy((params, batch_stats)) if phase.ema_decay else (),
        opt_state=phase.optimizer.init(params),
        plateau=phase.plateau.init(),
        early_stopping=phase.early_stopping.init(params, batch_stats),
        best=best,
    )
