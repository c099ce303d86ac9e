"""Logits and losses of a whole set of images, in batches of one size."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, UInt8

from mnist_jax import models
from mnist_jax.config import Experiment
from mnist_jax.devices import parallel
from mnist_jax.devices.parallel import Devices
from mnist_jax.training import step
from mnist_jax.training.step import ApplyFn, Batch, LossFn
from mnist_jax.tree import Tree

# Grey values, 0..255 or, as floats, 0..1.
Images = UInt8[Array | np.ndarray, "n h w c"] | Float[Array | np.ndarray, "n h w c"]


class Evaluator:
    """Computes logits and losses; one compiled program serves sets of any size.

    Repetitions of the last image fill the last batch; their results are dropped. With
    several replicas, weights and results have a leading axis of them.

    Args:
        apply_fn: `Model.apply`.
        loss_fn: `Model.loss`.
        batch_size: images in a call.
        devices: the devices that share a batch, or the seeds.
    """

    def __init__(
        self, apply_fn: ApplyFn, loss_fn: LossFn, *, batch_size: int, devices: Devices
    ):
        self.devices = devices
        self._batch_size = batch_size
        self._eval_step = step.make_eval_step(apply_fn=apply_fn, loss_fn=loss_fn)
        self._compiled: dict[Any, Callable[..., Any]] = {}

    @classmethod
    def of_model(cls, model: models.Model, config: Experiment) -> "Evaluator":
        """Return the evaluator of a whole network, on all devices."""
        return cls(
            model.apply,
            model.loss,
            batch_size=config.eval_batch_size,
            devices=parallel.every(config.parallel),
        )

    def __call__(
        self,
        params: Tree,
        batch_stats: Tree,
        batch: Batch,
        *,
        rehearse: bool = False,
    ) -> tuple[Float[Array, "..."], Float[Array, "..."]]:
        """Return the logits and the loss of each image, of which there is at least one.

        To `rehearse` is to compute the first batch alone and to repeat its results,
        which is enough to compile everything.
        """
        devices, count = self.devices, len(batch.labels)
        params, batch_stats = devices.place((params, batch_stats))
        images, labels = np.asarray(batch.images), np.asarray(batch.labels)
        size = -(-min(self._batch_size, count) // devices.count) * devices.count
        results: list[tuple[Array, Array]] = []
        for first in range(0, count, size):
            if rehearse and results:
                results.append(results[0])
                continue
            rows = np.minimum(np.arange(first, first + size), count - 1)
            part = Batch(
                devices.split(images[rows], axis=0), devices.split(labels[rows], axis=0)
            )
            arguments = (params, batch_stats, part)
            kind = size, images.shape[1:], images.dtype, labels.dtype
            if kind not in self._compiled:
                self._compiled[kind] = devices.compile(
                    self._eval_step, (0, 0, None), arguments, split=2
                )
            results.append(self._compiled[kind](*arguments))
            if devices.must_wait:
                jax.block_until_ready(results)
        axis = 0 if devices.replicas == 1 else 1
        logits, losses = (
            jax.lax.slice_in_dim(jnp.concatenate(parts, axis=axis), 0, count, axis=axis)
            for parts in zip(*results, strict=True)
        )
        return logits, losses

    def logits(
        self, params: Tree, batch_stats: Tree, images: Images
    ) -> Float[Array, "..."]:
        """Return the logits of images whose classes are unknown."""
        arrays: Any = images, np.zeros(len(images), np.uint8)
        return self(params, batch_stats, Batch(*arrays))[0]
