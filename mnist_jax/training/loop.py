"""Epochs: steps in chunks, validation, the monitors, and a word to whoever listens.

The data lie on the devices as uint8; a step gathers its batch by index. The host never
waits for what it has just dispatched: it reads the metrics of the chunk before, and
those of the last one when validation is under way.
"""

import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int32, PRNGKeyArray, UInt8

from mnist_jax.devices.parallel import Devices
from mnist_jax.errors import UserError
from mnist_jax.training import monitors, step
from mnist_jax.training.phase import Phase
from mnist_jax.training.state import TrainState
from mnist_jax.training.step import Batch
from mnist_jax.typing import Tree

ApplyFn = Callable[..., tuple[Array, Tree]]


class Keys(NamedTuple):
    """A run's random streams, each of its own: none depends on how another is used."""

    init: PRNGKeyArray
    order: PRNGKeyArray
    step: PRNGKeyArray


def make_keys(seed: int) -> Keys:
    """Derive the streams of a run from its seed."""
    key = jax.random.key(seed)
    return Keys(
        *(jax.random.fold_in(key, stream) for stream in range(len(Keys._fields)))
    )


@runtime_checkable
class Listener(Protocol):
    """Who is told how the training goes on; `mnist_jax.console.Progress` for one."""

    def compiling(self) -> None:
        """Compilation begins: it takes seconds in which nothing else happens."""

    def compiled(self, seconds: float) -> None:
        """Compilation is over, and took so long."""

    def steps_done(self, epoch: int, step: int, steps: int, loss: float) -> None:
        """`step` of the `steps` of `epoch` are done; `loss` is the last one's."""


class NonFiniteLossError(UserError):
    """The loss became NaN or infinite: going on would train nothing."""


def epoch_order(
    key: PRNGKeyArray, epoch: int | Int32[Array, ""], *, size: int, batch_size: int
) -> Int32[Array, "steps batch"]:
    """Draw which images each step of an epoch takes.

    A function of `key` and `epoch` alone, so that a resumed run sees the same batches.
    The `size % batch_size` images at the end of the permutation sit this epoch out.
    """
    steps = size // batch_size
    order = jax.random.permutation(jax.random.fold_in(key, epoch), size)
    return order[: steps * batch_size].reshape(steps, batch_size).astype(jnp.int32)


def default_steps_per_call(backend: str, convolutions: str | None, steps: int) -> int:
    """Return how many steps of an epoch go into one call, where the config says 0.

    Args:
        backend: JAX's name for it.
        convolutions: their form, see `mnist_jax.models.operations`.
        steps: of the epoch.
    """
    if backend != "cpu":
        return steps
    if convolutions != "onednn":
        return 1
    # Few enough that ctrl-C is heard soon, and if possible a divisor, since a shorter
    # call at the end is another program to compile.
    few = range(10, 41)
    return max((n for n in few if steps % n == 0), default=20)


class Trainer:
    """The compiled functions of one phase over one data set.

    Args:
        apply_fn: `Model.apply`.
        phase: what trains.
        data: the training set.
        val: the validation set.
        augment_fn: changes the training images at random, if given.
        devices: which ones share a batch.
        eval_batch_size: images a call in evaluation.
        steps_per_call: at least 1.
        monitor: which figure says what the best epoch is.
        keys: the run's random streams.
        listener: who is told how it goes on.

    Raises:
        TypeError: images that are not uint8; see `step.check_images`.
    """

    def __init__(
        self,
        *,
        apply_fn: ApplyFn,
        phase: Phase,
        data: Batch,
        val: Batch,
        augment_fn: step.AugmentFn | None,
        devices: Devices,
        eval_batch_size: int,
        steps_per_call: int,
        monitor: str,
        keys: Keys,
        listener: Listener,
    ):
        step.check_images(data)
        step.check_images(val)
        self._devices, self._listener = devices, listener
        self._data, self._val, self._step_key = devices.replicate(
            (data, val, keys.step)
        )
        self._steps = phase.steps_per_epoch(len(data.labels))
        self._images_per_epoch = self._steps * phase.batch_size
        self._chunk = min(self._steps, steps_per_call)
        learning_rate_fn = phase.learning_rate_fn(self._steps)
        self._train_step = step.make_train_step(
            apply_fn=apply_fn,
            optimizer=phase.optimizer,
            learning_rate_fn=learning_rate_fn,
            augment_fn=augment_fn,
            label_smoothing=phase.label_smoothing,
            ema_decay=phase.ema_decay,
            freeze=phase.freeze,
        )
        self._predict = make_predict(
            apply_fn=apply_fn, batch_size=eval_batch_size, devices=devices
        )
        self._score = jax.jit(
            lambda logits, labels: (
                step.cross_entropy(logits, labels).mean(),
                step.accuracy(logits, labels),
            )
        )
        self._learning_rate = jax.jit(
            lambda state: learning_rate_fn(state.phase_step - 1) * state.plateau.scale
        )
        self._watch = jax.jit(make_watch(phase=phase, monitor=monitor))
        self._order = jax.jit(
            lambda epoch: epoch_order(
                keys.order, epoch, size=len(data.labels), batch_size=phase.batch_size
            )
        )
        self._compiled: dict[int, Callable[..., Any]] = {}

    def run_epoch(
        self, state: TrainState, epoch: int
    ) -> tuple[TrainState, list[dict[str, Any]]]:
        """Train an epoch, validate, and let the monitors take note of it.

        Args:
            state: at the end of the epoch before; its buffers are given up.
            epoch: counted from 1 through all phases.

        Returns:
            The new state and two records, of `train` and `val`: see `metrics.jsonl`.

        Raises:
            NonFiniteLossError: with the step at which it was seen.
        """
        state = self._devices.replicate(state)
        self._compile(state)
        begin = time.perf_counter()
        state, finish = self._train(state, epoch)
        finished = finish() if self._devices.must_wait else None
        logits = self._predict(*state.weights, self._val.images)
        val_loss, val_accuracy = self._score(logits, self._val.labels)
        loss, accuracy, trained = finished or finish()
        if not np.isfinite(val_loss):
            raise NonFiniteLossError(
                f"The validation loss became {val_loss} in epoch {epoch}. {_WAY_OUT}"
            )
        learning_rate = float(self._learning_rate(state))
        figures = {
            "train_loss": np.float32(loss),
            "val_loss": val_loss,
            "val_accuracy": val_accuracy,
        }
        state = state.replace(**self._watch(state, figures, np.int32(epoch)))
        seconds = trained - begin
        records = [
            {
                "epoch": epoch,
                "split": "train",
                "loss": loss,
                "accuracy": accuracy,
                "learning_rate": learning_rate,
                "seconds": seconds,
                "images_per_second": self._images_per_epoch / seconds,
            },
            {
                "epoch": epoch,
                "split": "val",
                "loss": float(val_loss),
                "accuracy": float(val_accuracy),
                "seconds": time.perf_counter() - trained,
            },
        ]
        return state, records

    def _train(
        self, state: TrainState, epoch: int
    ) -> tuple[TrainState, Callable[[], tuple[float, float, float]]]:
        """Set the steps of an epoch going.

        Returns:
            The state after them, and a function that waits for their end: it gives the
            mean loss, the mean accuracy and the time of day, in `perf_counter`'s terms.
        """
        indices = self._devices.split(self._order(np.int32(epoch)))
        losses, accuracies = [], []

        def fetch(first: int, metrics: step.StepMetrics) -> float:
            loss = np.asarray(metrics.loss)
            finite = np.isfinite(loss)
            if not finite.all():
                bad = int(finite.argmin())
                raise NonFiniteLossError(
                    f"The training loss became {loss[bad]} in epoch {epoch}, step "
                    f"{first + bad + 1} of {self._steps}. {_WAY_OUT}"
                )
            losses.append(loss)
            accuracies.append(np.asarray(metrics.accuracy))
            now = time.perf_counter()
            self._listener.steps_done(
                epoch, first + len(loss), self._steps, float(loss[-1])
            )
            return now

        pending = None
        for first, length in _chunks(self._steps, self._chunk):
            state, metrics = self._compiled[length](
                state, self._data, indices, np.int32(first), self._step_key
            )
            if self._devices.must_wait:
                jax.block_until_ready(metrics)
            if pending is not None:
                fetch(*pending)
            pending = (first, metrics)
        assert pending is not None, "an epoch has at least one step"
        last = pending

        def finish() -> tuple[float, float, float]:
            end = fetch(*last)
            # In float64 and in one order, whatever the length of the chunks.
            return (
                float(np.concatenate(losses).mean(dtype=np.float64)),
                float(np.concatenate(accuracies).mean(dtype=np.float64)),
                end,
            )

        return state, finish

    def _compile(self, state: TrainState) -> None:
        """Compile what an epoch needs, so that no epoch's time holds a compilation."""
        lengths = {length for _, length in _chunks(self._steps, self._chunk)}
        if self._compiled.keys() >= lengths:
            return
        begin = time.perf_counter()
        self._listener.compiling()
        indices = self._devices.split(self._order(np.int32(0)))
        arguments = (state, self._data, indices, np.int32(0), self._step_key)
        for length in lengths:
            self._compiled[length] = self._devices.compile(
                step.make_train_steps(train_step=self._train_step, steps=length),
                arguments,
                rows=2,
                donate=True,
            )
        logits = self._predict(*state.weights, self._val.images)
        jax.block_until_ready(self._score(logits, self._val.labels))
        self._listener.compiled(time.perf_counter() - begin)


def make_watch(
    *, phase: Phase, monitor: str
) -> Callable[[TrainState, monitors.Figures, Int32[Array, ""]], dict[str, Any]]:
    """Build what happens at the end of an epoch: `watch(state, figures, epoch)`.

    It returns the fields of the state that change: the three monitors.
    """
    update_best = monitors.make_update_best(monitor=monitor)

    def watch(
        state: TrainState, figures: monitors.Figures, epoch: Int32[Array, ""]
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


_WAY_OUT = (
    "Nothing of this epoch is saved. The usual remedy is a smaller "
    "--config.phases[i].optimizer.learning_rate, with another --workdir."
)


def _chunks(steps: int, chunk: int) -> Iterator[tuple[int, int]]:
    """Cut an epoch into calls: pairs of the first step and the number of steps."""
    for first in range(0, steps, chunk):
        yield first, min(chunk, steps - first)


# Grey values, 0..255 or, as floats, 0..1.
Images = UInt8[Array | np.ndarray, "n h w c"] | Float[Array | np.ndarray, "n h w c"]


def make_predict(
    *, apply_fn: ApplyFn, batch_size: int, devices: Devices
) -> Callable[[Tree, Tree, Images], Float[Array, "n ..."]]:
    """Build `predict(params, batch_stats, images) -> logits` for any number of images.

    Every image counts: the last batch is filled up with repetitions of the last image,
    whose logits are dropped, so that one compiled program serves all batches. So is
    every batch, if its size is no multiple of the number of devices.
    """
    eval_step = step.make_eval_step(apply_fn=apply_fn)
    compiled: dict[tuple[int, int, Any], Callable[..., Array]] = {}

    def predict(
        params: Tree, batch_stats: Tree, images: Images
    ) -> Float[Array, "n ..."]:
        params, batch_stats, images = devices.replicate((params, batch_stats, images))
        count = len(images)
        size = -(-min(batch_size, count) // devices.count) * devices.count
        logits = []
        for first in range(0, count, size):
            rows = np.minimum(np.arange(first, first + size, dtype=np.int32), count - 1)
            arguments = (params, batch_stats, images, devices.split(rows))
            kind = count, size, images.dtype
            if kind not in compiled:
                compiled[kind] = devices.compile(eval_step, arguments, rows=3)
            logits.append(compiled[kind](*arguments))
            if devices.must_wait:
                jax.block_until_ready(logits)
        return jnp.concatenate(logits)[:count]

    return predict
