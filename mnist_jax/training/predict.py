"""Prediction over a whole set of images, in batches of one size."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, UInt8

from mnist_jax.devices.parallel import Devices
from mnist_jax.training import step
from mnist_jax.tree import Tree

ApplyFn = Callable[..., tuple[Array, Tree]]
# Grey values, 0..255 or, as floats, 0..1.
Images = UInt8[Array | np.ndarray, "n h w c"] | Float[Array | np.ndarray, "n h w c"]
Predict = Callable[..., Float[Array, "..."]]


def make_predict(*, apply_fn: ApplyFn, batch_size: int, devices: Devices) -> Predict:
    """Build `predict(params, batch_stats, images, rehearse=False) -> logits`.

    There may be any number of images. With `rehearse`, only the first batch is computed
    and its logits stand in for the rest, which is enough to compile everything.

    Every image counts: the last batch is filled up with repetitions of the last image,
    whose logits are dropped, so that one compiled program serves all batches, of all
    sets. So is every batch, if its size is no multiple of the number of devices. With
    several replicas, weights and logits have a leading axis of replicas.
    """
    eval_step = devices.map(step.make_eval_step(apply_fn=apply_fn), (0, 0, None))
    compiled: dict[Any, Callable[..., Array]] = {}

    def predict(
        params: Tree, batch_stats: Tree, images: Images, rehearse: bool = False
    ) -> Float[Array, "..."]:
        params, batch_stats = devices.place((params, batch_stats))
        images = np.asarray(images)
        count = len(images)
        size = -(-min(batch_size, count) // devices.count) * devices.count
        logits = []
        for first in range(0, count, size):
            if rehearse and logits:
                logits.append(logits[0])
                continue
            rows = np.minimum(np.arange(first, first + size), count - 1)
            arguments = (params, batch_stats, devices.split(images[rows], axis=0))
            kind = size, images.shape[1:], images.dtype
            if kind not in compiled:
                compiled[kind] = devices.compile(eval_step, arguments, split=2)
            logits.append(compiled[kind](*arguments))
            if devices.must_wait:
                jax.block_until_ready(logits)
        axis = 0 if devices.replicas == 1 else 1
        whole = jnp.concatenate(logits, axis=axis)
        return jax.lax.slice_in_dim(whole, 0, count, axis=axis)

    return predict
