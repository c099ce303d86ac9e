"""The function that every export computes: images to probabilities."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, UInt8

from mnist_jax.combine import stacking
from mnist_jax.combine.ensemble import Ensemble
from mnist_jax.errors import UserError
from mnist_jax.runs.load import Network
from mnist_jax.runs.trained import Trained
from mnist_jax.tree import Tree

ApplyFn = Callable[[Tree, UInt8[Array, "n ..."]], Float[Array, "n classes"]]


def input_shape(run: Trained) -> tuple[int, ...]:
    """Return the shape of the images that an exported network takes.

    It is [height, width] for grey images, otherwise [height, width, channels].
    """
    height, width, channels = run.task.image_shape
    return (height, width) if channels == 1 else (height, width, channels)


def make_logits(run: Trained) -> tuple[ApplyFn, Tree]:
    """Return `apply(variables, images) -> logits`, and the variables of a run.

    It consists of XLA's own operations, since no other machine can be expected to have
    those of `mnist_jax.models.operations`, and it computes in float32, whatever the
    network was trained in.

    Raises:
        UserError: it is neither a network nor an ensemble of networks.
    """
    if isinstance(run, Ensemble):
        return _make_ensemble(run)
    if not isinstance(run, Network):
        raise UserError(
            f"{run.path.parent} cannot be exported: it is neither a network nor an "
            "ensemble of networks."
        )
    module: Any = run.model.module
    if hasattr(module, "dtype"):
        module = module.clone(dtype=jnp.float32)
    model = dataclasses.replace(run.model, module=module, convolutions="plain")

    def apply(variables: Tree, images: UInt8[Array, "n ..."]) -> Array:
        # As the networks were trained: `mnist_jax.training.step` divides by 255 too.
        unit = images.astype(jnp.float32).reshape(-1, *model.task.image_shape) / 255
        params, batch_stats = variables
        return model.apply(params, batch_stats, unit, train=False)[0].logits

    return apply, (run.params, run.batch_stats)


def _make_ensemble(run: Ensemble) -> tuple[ApplyFn, Tree]:
    apply_fns, members = zip(*map(make_logits, run.members), strict=True)
    stacker = {name: x.astype(np.float32) for name, x in run.stacker.items()}

    def apply(variables: Tree, images: UInt8[Array, "n ..."]) -> Array:
        pairs = zip(apply_fns, variables[0], strict=True)
        logits = [apply_fn(member, images) for apply_fn, member in pairs]
        return stacking.combine(logits, run.by, variables[1], jnp)

    return apply, (members, stacker)


def make_probabilities(run: Trained) -> Callable[[UInt8[Array, "n ..."]], Array]:
    """Return a function of images alone, for `jax.jit` and `jax.export`."""
    apply, variables = make_logits(run)

    return lambda images: jax.nn.softmax(apply(variables, images), axis=-1)
