"""Everything that a checkpoint must hold of the training, and nothing else."""

import flax.struct
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Int32

from mnist_jax.training.monitors import Best
from mnist_jax.typing import Tree


class TrainState(flax.struct.PyTreeNode):
    """The training at the end of a step.

    There is no random key in it: keys are folded from the seed and the step, so that a
    resumed run draws what an uninterrupted one would.

    Attributes:
        step: steps done since the beginning of the run, through all phases.
        params: what the optimizer changes.
        batch_stats: BatchNorm's running statistics; empty without BatchNorm.
        opt_state: the optimizer's.
        best: the weights of the best epoch so far.
    """

    step: Int32[Array, ""]
    params: Tree
    batch_stats: Tree
    opt_state: optax.OptState
    best: Best


def create(
    params: Tree, batch_stats: Tree, optimizer: optax.GradientTransformation
) -> TrainState:
    """Return the state before the first step."""
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        params=params,
        batch_stats=batch_stats,
        opt_state=optimizer.init(params),
        best=Best.none(params, batch_stats),
    )


def begin_phase(
    state: TrainState, optimizer: optax.GradientTransformation, *, from_best: bool
) -> TrainState:
    """Return the state at the start of a further phase: a fresh optimizer.

    Args:
        state: at the end of the phase before.
        optimizer: the new phase's.
        from_best: go on from the best epoch's weights instead of the last one's.
    """
    source = state.best if from_best else state
    # Copied, since the step donates its state and two leaves may not share a buffer.
    params, batch_stats = jax.tree.map(
        lambda leaf: jnp.array(leaf, copy=True), (source.params, source.batch_stats)
    )
    return state.replace(
        params=params, batch_stats=batch_stats, opt_state=optimizer.init(params)
    )
