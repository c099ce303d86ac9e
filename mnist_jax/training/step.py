"""One step of training and one of evaluation: pure functions, jitted by the loop."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Float32, Int32, Integer, PRNGKeyArray, UInt8

from mnist_jax import data
from mnist_jax.devices import shards
from mnist_jax.models import Outputs
from mnist_jax.training.groups import Groups
from mnist_jax.training.state import TrainState
from mnist_jax.tree import Tree


class Batch(NamedTuple):
    """Images, uint8 in 0..255, and their labels.

    In place of images, float32 features: the output of a frozen part of the network.
    """

    images: UInt8[Array, "batch height width channels"] | Float32[Array, "batch ..."]
    labels: UInt8[Array, " batch"]

    @classmethod
    def from_split(cls, split: data.Split) -> "Batch":
        """Put a whole set on the default device, unless it is too large."""
        if isinstance(split.images, data.Rows):
            return cls(split.images, split.labels)  # type: ignore[arg-type]
        return cls(*jax.device_put((split.images, split.labels)))


class StepMetrics(NamedTuple):
    """Means over the batch of a step, with dropout and augmentation."""

    loss: Float32[Array, ""]
    accuracy: Float32[Array, ""]


AugmentFn = Callable[..., Float[Array, "batch height width channels"]]
ApplyFn = Callable[..., tuple[Outputs, Tree]]
LossFn = Callable[..., Float[Array, " batch"]]
TrainStep = Callable[[TrainState, Batch, PRNGKeyArray], tuple[TrainState, StepMetrics]]

# Folded into a step's key for the draws of the augmentation.
_AUGMENT = 1


def to_input(
    images: UInt8[Array, "batch height width channels"] | Float32[Array, "batch ..."],
) -> Float[Array, "batch ..."]:
    """Scale uint8 images to 0..1; floating-point values are returned unchanged."""
    if images.dtype != jnp.uint8:
        return images
    return images.astype(jnp.float32) / 255


def accuracy(
    logits: Float[Array, "batch classes"], labels: Integer[Array, " batch"]
) -> Float32[Array, ""]:
    """Return the share of images whose largest logit is their label's."""
    return jnp.mean(logits.argmax(axis=-1) == labels, dtype=jnp.float32)


def make_train_step(
    *,
    apply_fn: ApplyFn,
    loss_fn: LossFn,
    optimizer: optax.GradientTransformation,
    learning_rate_fn: optax.Schedule,
    augment_fn: AugmentFn | None = None,
    label_smoothing: float = 0.0,
    ema_decay: float = 0.0,
    batch_norm_momentum: float = 1.0,
    groups: Groups | None = None,
) -> TrainStep:
    """Build `train_step(state, batch, key) -> (state, metrics)`.

    Args:
        apply_fn: `Model.apply`.
        loss_fn: `Model.loss`.
        optimizer: the one that `state.opt_state` belongs to; gives directions.
        learning_rate_fn: from a step of the phase to its learning rate, which
            `state.plateau` scales.
        augment_fn: `(key, images, phase_step, labels) -> images`, if given, changes the
            images at random.
        label_smoothing: share of each label that is spread evenly over all classes.
        ema_decay: of the moving average in `state.ema`; 0 for no average.
        batch_norm_momentum: upper limit of the decay rate of BatchNorm's statistics.
        groups: which parameters are frozen: they stay as they are, to the bit, no
            gradient is computed for them, and a frozen BatchNorm uses its running
            statistics.

    Returns:
        A pure function of one batch, or, on several devices, of a shard of it (see
        `mnist_jax.devices.shards`). `key` is the run's: what a step draws depends on it
        and on `state.step` alone.
    """
    groups = groups or Groups()

    def train_step(
        state: TrainState, batch: Batch, key: PRNGKeyArray
    ) -> tuple[TrainState, StepMetrics]:
        step_key = jax.random.fold_in(key, state.step)
        images = to_input(batch.images)
        if augment_fn is not None:
            # So that the model's draws do not depend on the augmentation.
            augment_key = jax.random.fold_in(step_key, _AUGMENT)
            images = augment_fn(augment_key, images, state.phase_step, batch.labels)

        # At first the mean over all steps so far: the initial 0 and 1 do not count.
        steps = state.step.astype(jnp.float32)
        momentum = jnp.minimum(batch_norm_momentum, steps / (steps + 1))
        held = {"frozen": groups.frozen_layers(state.params)} if groups else {}

        def mean_loss(params: Tree) -> tuple[Array, tuple[Array, Tree]]:
            outputs, batch_stats = apply_fn(
                groups.stop(params),
                state.batch_stats,
                images,
                train=True,
                key=step_key,
                labels=batch.labels,
                momentum=momentum,
                **held,
            )
            loss = loss_fn(outputs, images, batch.labels, smoothing=label_smoothing)
            return loss.mean(), (outputs.logits, batch_stats)

        (loss, (logits, batch_stats)), gradients = jax.value_and_grad(
            mean_loss, has_aux=True
        )(state.params)
        metrics = StepMetrics(loss, accuracy(logits, batch.labels))
        gradients, metrics = shards.mean((gradients, metrics))
        directions, opt_state = optimizer.update(
            gradients, state.opt_state, params=state.params
        )
        learning_rate = learning_rate_fn(state.phase_step) * state.plateau.scale
        params = jax.tree.map(
            lambda factor, p, d: p - learning_rate * d if factor else p,
            groups.factors(state.params),
            state.params,
            directions,
        )
        state = state.replace(
            step=state.step + 1,
            phase_step=state.phase_step + 1,
            params=params,
            batch_stats=batch_stats,
            opt_state=opt_state,
            ema=_moving_average(
                state.ema, (params, batch_stats), state.phase_step + 1, ema_decay
            ),
        )
        return state, metrics

    return train_step


def _moving_average(
    average: tuple[Tree, ...],
    weights: tuple[Tree, Tree],
    steps: Int32[Array, ""],
    decay: float,
) -> tuple[Tree, ...]:
    """Return the exponential moving average after a step; `()` stays `()`."""
    if not average:
        return ()
    # The warm-up of TensorFlow's ExponentialMovingAverage.
    t = steps.astype(jnp.float32)
    memory = jnp.minimum(decay, (1 + t) / (10 + t))
    return jax.tree.map(
        lambda new, old: old + (1 - memory) * (new - old), weights, average
    )


def make_train_steps(
    *, train_step: TrainStep, steps: int
) -> Callable[..., tuple[TrainState, StepMetrics]]:
    """Build a function that runs `steps` steps of an epoch in one call to the device.

    It is `train_steps(state, data, indices, first, key)`: `data` is the whole training
    set, `indices` has the images of each step of the epoch, and `first` is the step to
    begin with. The metrics have a leading axis of length `steps`. The result does not
    depend on how an epoch is divided into calls.
    """

    def one(
        state: TrainState, data: Batch, indices: Int32[Array, " batch"], key: Array
    ) -> tuple[TrainState, StepMetrics]:
        batch = Batch(data.images[indices], data.labels[indices])
        return train_step(state, batch, key)

    def train_steps(
        state: TrainState,
        data: Batch,
        indices: Int32[Array, "epoch_steps batch"],
        first: Int32[Array, ""],
        key: PRNGKeyArray,
    ) -> tuple[TrainState, StepMetrics]:
        chunk = jax.lax.dynamic_slice_in_dim(indices, first, steps)
        if steps == 1:  # no loop: see config.steps_per_call
            state, metrics = one(state, data, chunk[0], key)
            return state, jax.tree.map(lambda x: x[None], metrics)
        return jax.lax.scan(lambda s, i: one(s, data, i, key), state, chunk)

    return train_steps


def make_eval_step(
    *, apply_fn: ApplyFn, loss_fn: LossFn
) -> Callable[..., tuple[Float[Array, "batch ..."], Float[Array, " batch"]]]:
    """Build `eval_step(params, batch_stats, batch) -> (logits, loss)`.

    The loss is that of each image, without label smoothing.
    """

    def eval_step(
        params: Tree, batch_stats: Tree, batch: Batch
    ) -> tuple[Float[Array, "batch ..."], Float[Array, " batch"]]:
        images = to_input(batch.images)
        outputs, _ = apply_fn(
            params, batch_stats, images, train=False, labels=batch.labels
        )
        loss = loss_fn(outputs, images, batch.labels)
        return shards.gather(outputs.logits), shards.gather(loss)

    return eval_step
