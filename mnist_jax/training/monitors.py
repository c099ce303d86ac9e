"""What watches the training from epoch to epoch: pure state machines on jax arrays.

`update(state, value) -> state` with no Python `if` on a value, so that all of it can
run under `vmap` over seeds.
"""

import operator
from collections.abc import Callable
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float32, Int32

from mnist_jax.errors import UserError
from mnist_jax.typing import Tree

# The figures of an epoch that can be watched, and whether lower or higher is better.
MONITORS: dict[str, Callable[[Any, Any], Any]] = {
    "train_loss": operator.lt,
    "val_loss": operator.lt,
    "val_accuracy": operator.gt,
}


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
        params, batch_stats = jax.tree.map(
            lambda leaf: jnp.array(leaf, copy=True), (params, batch_stats)
        )
        return cls(
            value=jnp.array(jnp.nan, jnp.float32),
            epoch=jnp.zeros((), jnp.int32),
            params=params,
            batch_stats=batch_stats,
        )


def make_update_best(*, monitor: str) -> Callable[..., Best]:
    """Build the function that keeps the best epoch by `monitor`.

    It is `update(best, metrics, epoch, params, batch_stats) -> best`, where `metrics`
    maps every name in `MONITORS` to a scalar. The first epoch always counts; a later
    one only if strictly better, so that of equals the earliest stays.

    Raises:
        UserError: there is no monitor of that name.
    """
    if monitor not in MONITORS:
        known = ", ".join(MONITORS)
        raise UserError(f"--config.best.monitor={monitor}: unknown (known: {known}).")
    is_better = MONITORS[monitor]

    def update_best(
        best: Best,
        metrics: dict[str, Float32[Array, ""]],
        epoch: Int32[Array, ""],
        params: Tree,
        batch_stats: Tree,
    ) -> Best:
        value = jnp.asarray(metrics[monitor], jnp.float32)
        better = (best.epoch == 0) | is_better(value, best.value)
        candidate = Best(
            value=value,
            epoch=jnp.asarray(epoch, jnp.int32),
            params=params,
            batch_stats=batch_stats,
        )
        return jax.tree.map(
            lambda new, old: jnp.where(better, new, old), candidate, best
        )

    return update_best
