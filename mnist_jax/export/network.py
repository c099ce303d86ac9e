"""The function that every export computes: images to probabilities."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, UInt8

from mnist_jax.runs.load import Run
from mnist_jax.tree import Tree

INPUT_SHAPE = (28, 28)
"""Height and width of the images that an exported network takes."""

ApplyFn = Callable[[Tree, UInt8[Array, "n 28 28"]], Float[Array, "n classes"]]


def make_logits(run: Run) -> tuple[ApplyFn, Tree]:
    """Return `apply(variables, images) -> logits`, and the variables of a run.

    It consists of XLA's own operations, since no other machine can be expected to have
    those of `mnist_jax.models.operations`, and it computes in float32, whatever the
    network was trained in.
    """
    module: Any = run.model.module
    model = dataclasses.replace(
        run.model, module=module.clone(dtype=jnp.float32), convolutions="plain"
    )

    def apply(variables: Tree, images: UInt8[Array, "n 28 28"]) -> Array:
        # As the networks were trained: `mnist_jax.training.step` divides by 255 too.
        grey = images.astype(jnp.float32)[..., None] / 255
        params, batch_stats = variables
        return model.apply(params, batch_stats, grey, train=False)[0].logits

    return apply, (run.params, run.batch_stats)


def make_probabilities(run: Run) -> Callable[[UInt8[Array, "n 28 28"]], Array]:
    """Return a function of images alone, for `jax.jit` and `jax.export`."""
    apply, variables = make_logits(run)
    return lambda images: jax.nn.softmax(apply(variables, images), axis=-1)
