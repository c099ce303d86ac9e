"""Prediction and evaluation of a whole set of images, in batches of one size."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, UInt8

from mnist_jax.devices import shards
from mnist_jax.devices.parallel import Devices
from mnist_jax.training import step
from mnist_jax.training.step import ApplyFn, LossFn
from mnist_jax.tree import Tree

# Grey values, 0..255 or, as floats, 0..1.
Images = UInt8[Array | np.ndarray, "n h w c"] | Float[Array | np.ndarray, "n h w c"]
Predict = Callable[..., Float[Array, "..."]]
Evaluate = Callable[..., tuple[Float[Array, "..."], Float[Array, "..."]]]


def make_predict(*, apply_fn: ApplyFn, batch_size: int, devices: Devices) -> Predict:
    """Build `predict(params, batch_stats, images) -> logits`.

    There may be any number of images; see `make_evaluate`.
    """

    def predict_step(params: Tree, batch_stats: Tree, images: Array) -> Array:
        outputs, _ = apply_fn(params, batch_stats, step.to_input(images), train=False)
        return shards.gather(outputs.logits)

    return _in_batches(predict_step, batch_size=batch_size, devices=devices)


def make_evaluate(
    *,
    apply_fn: ApplyFn,
    loss_fn: LossFn,
    batch_size: int,
    devices: Devices,
) -> Evaluate:
    """Build `evaluate(params, batch_stats, batch, rehearse=False) -> (logits, loss)`.

    The batch may have any number of images; the loss is that of each. With `rehearse`,
    only the first images are computed and their results stand in for the rest, which is
    enough to compile everything.

    Every image counts: the last call is filled up with repetitions of the last image,
    whose results are dropped, so that one compiled program serves all calls, for all
    sets. So is every call, if its size is no multiple of the number of devices. With
    several replicas, weights and results have a leading axis of replicas.
    """
    eval_step = step.make_eval_step(apply_fn=apply_fn, loss_fn=loss_fn)
    return _in_batches(eval_step, batch_size=batch_size, devices=devices)


def _in_batches(
    function: Callable[..., Tree],
    *,
    batch_size: int,
    devices: Devices,
) -> Callable[..., Any]:
    mapped = devices.map(function, (0, 0, None))
    compiled: dict[Any, Callable[..., Tree]] = {}

    def run(
        params: Tree, batch_stats: Tree, batch: Tree, rehearse: bool = False
    ) -> Tree:
        params, batch_stats = devices.place((params, batch_stats))
        batch = jax.tree.map(np.asarray, batch)
        count = len(jax.tree.leaves(batch)[0])
        size = -(-min(batch_size, count) // devices.count) * devices.count
        results = []
        for first in range(0, count, size):
            if rehearse and results:
                results.append(results[0])
                continue
            rows = np.minimum(np.arange(first, first + size), count - 1)
            part = jax.tree.map(lambda x: devices.split(x[rows], axis=0), batch)  # noqa: B023
            arguments = (params, batch_stats, part)
            kind = size, *((x.shape[1:], x.dtype) for x in jax.tree.leaves(batch))
            if kind not in compiled:
                compiled[kind] = devices.compile(mapped, arguments, split=2)
            results.append(compiled[kind](*arguments))
            if devices.must_wait:
                jax.block_until_ready(results)

        axis = 0 if devices.replicas == 1 else 1

        def join(*parts: Array) -> Array:
            whole = jnp.concatenate(parts, axis=axis)
            return jax.lax.slice_in_dim(whole, 0, count, axis=axis)

        return jax.tree.map(join, *results)

    return run
