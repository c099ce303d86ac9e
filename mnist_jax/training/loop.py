"""Epochs: steps in chunks, validation, the monitors, and a word to whoever listens.

The data lie on the devices as uint8; a step gathers its batch by index. The host never
waits for what it has just dispatched: it reads the metrics of the chunk before, and
those of the last one when validation is under way.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int32, PRNGKeyArray

from mnist_jax.devices.compiler import short_program_options
from mnist_jax.devices.parallel import Devices
from mnist_jax.errors import UserError
from mnist_jax.training import step
from mnist_jax.training.phase import Phase
from mnist_jax.training.predict import Evaluate
from mnist_jax.training.state import TrainState, make_watch
from mnist_jax.training.step import ApplyFn, Batch, LossFn


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


def stack_keys(keys: Sequence[Keys], count: int) -> Keys:
    """Return the streams of replicas as one; `count` as in `state.stack`."""
    if count == 1:
        return keys[0]
    filled = [*keys, *[keys[-1]] * (count - len(keys))]
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *filled)


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


Outcome = list[dict[str, Any]] | NonFiniteLossError


class Trainer:
    """The compiled functions of one phase over one data set.

    It trains one replica of the network, or several at once.
    States and keys then have a leading axis, see `state.stack` and `stack_keys`, over
    which the functions of one replica are mapped; the data have none.

    Args:
        apply_fn: `Model.apply`.
        loss_fn: `Model.loss`.
        phase: what trains.
        data: the training set.
        val: the validation set.
        augment_fn: of `augment.create`, if any.
        devices: which ones share a batch, or replicas.
        evaluate: of `make_evaluate`, for `apply_fn`, `loss_fn` and `devices`.
        steps_per_call: at least 1.
        monitor: which figure says what the best epoch is.
        keys: the random streams.
        listener: who is told how it goes on.

    Raises:
        TypeError: images that are not uint8; see `step.check_images`.
    """

    def __init__(
        self,
        *,
        apply_fn: ApplyFn,
        loss_fn: LossFn,
        phase: Phase,
        data: Batch,
        val: Batch,
        augment_fn: Callable[..., Array] | None,
        devices: Devices,
        evaluate: Evaluate,
        steps_per_call: int,
        monitor: str,
        keys: Keys,
        listener: Listener,
    ):
        step.check_images(data)
        step.check_images(val)
        self._devices, self._listener = devices, listener
        self._data = devices.replicate(data)
        # `evaluate` puts a batch of these at a time on the devices.
        self._val, self._val_labels = val, devices.replicate(val.labels)
        self._order_key, self._step_key = keys.order, devices.place(keys.step)
        self._steps = phase.steps_per_epoch(len(data.labels))
        self._images_per_epoch = self._steps * phase.batch_size
        self._chunk = min(self._steps, steps_per_call)
        learning_rate_fn = phase.learning_rate_fn(self._steps)
        phase_steps = phase.epochs * self._steps
        augment_step = augment_fn and (
            lambda key, images, at: augment_fn(key, images, at / phase_steps)
        )
        self._train_step = step.make_train_step(
            apply_fn=apply_fn,
            loss_fn=loss_fn,
            optimizer=phase.optimizer,
            learning_rate_fn=learning_rate_fn,
            augment_fn=augment_step,
            label_smoothing=phase.label_smoothing,
            ema_decay=phase.ema_decay,
            freeze=phase.freeze,
        )
        self._evaluate = evaluate

        def score(logits: Array, loss: Array, labels: Array) -> tuple[Array, Array]:
            return loss.mean(), step.accuracy(logits, labels)

        def learning_rate(state: TrainState) -> Any:
            return learning_rate_fn(state.phase_step - 1) * state.plateau.scale

        def order(key: PRNGKeyArray, epoch: Array) -> Array:
            size = len(data.labels)
            return epoch_order(key, epoch, size=size, batch_size=phase.batch_size)

        watch = make_watch(phase, monitor)
        self._score = jax.jit(devices.map(score, (0, 0, None)))
        self._learning_rate = jax.jit(devices.map(learning_rate, (0,)))
        short = short_program_options()
        self._order = jax.jit(devices.map(order, (0, 0)), compiler_options=short)
        self._watch = jax.jit(devices.map(watch, (0, 0, 0)), compiler_options=short)
        self._compiled: dict[int, Callable[..., Any]] = {}

    def run_epochs(
        self, state: TrainState, epochs: Sequence[int | None]
    ) -> tuple[TrainState, list[Outcome]]:
        """Train an epoch, validate, and let the monitors take note of it.

        Args:
            state: at the end of the epoch before; its buffers are given up.
            epochs: the number of the epoch, for each replica, counted from 1 through
                all phases. None for a replica that no longer counts: it is computed
                like the others, but the caller must not use its state any more.

        Returns:
            The new state, and for each replica two records, of `train` and `val` (see
            `metrics.jsonl`), or the error that ended it: its state is of no use either.
        """
        state = self._devices.place(state)
        self._compile(state)
        begin = time.perf_counter()
        errors: dict[int, NonFiniteLossError] = {}
        counting = [place for place, epoch in enumerate(epochs) if epoch is not None]
        state, finish = self._train(state, epochs, errors)
        if len(errors) == len(counting):
            return state, [errors.get(place, []) for place in range(len(epochs))]
        finished = finish() if self._devices.must_wait else None
        judged = self._evaluate(*state.weights, self._val)
        val_loss, val_accuracy = self._score(*judged, self._val_labels)
        losses, accuracies, trained = finished or finish()
        val_losses, val_accuracies, learning_rates = map(
            np.atleast_1d, (val_loss, val_accuracy, self._learning_rate(state))
        )
        for place in set(counting) - errors.keys():
            if not np.isfinite(val_losses[place]):
                errors[place] = NonFiniteLossError(
                    f"The validation loss became {val_losses[place]} in epoch "
                    f"{epochs[place]}. {_WAY_OUT}"
                )
        figures = {
            "train_loss": self._for_each(losses, np.float32),
            "val_loss": val_loss,
            "val_accuracy": val_accuracy,
        }
        state = state.replace(**self._watch(state, figures, self._numbers(epochs)))
        seconds, end = trained - begin, time.perf_counter()

        def records(place: int) -> list[dict[str, Any]]:
            return [
                {
                    "epoch": epochs[place],
                    "split": "train",
                    "loss": losses[place],
                    "accuracy": accuracies[place],
                    "learning_rate": float(learning_rates[place]),
                    "seconds": seconds,
                    "images_per_second": self._images_per_epoch / seconds,
                },
                {
                    "epoch": epochs[place],
                    "split": "val",
                    "loss": float(val_losses[place]),
                    "accuracy": float(val_accuracies[place]),
                    "seconds": end - trained,
                },
            ]

        return state, [
            errors.get(place) or (records(place) if place in counting else [])
            for place in range(len(epochs))
        ]

    def _train(
        self,
        state: TrainState,
        epochs: Sequence[int | None],
        errors: dict[int, NonFiniteLossError],
    ) -> tuple[TrainState, Callable[[], tuple[list[float], list[float], float]]]:
        """Set the steps of an epoch going.

        Stops where every replica has an error: `errors`, by place, is filled.

        Returns:
            The state after them, and a function that waits for their end: it gives the
            mean losses, the mean accuracies and the time of day, in `perf_counter`'s
            terms.
        """
        order = self._order(self._order_key, self._numbers(epochs))
        indices = self._devices.split(order)
        counting = {place: e for place, e in enumerate(epochs) if e is not None}
        losses, accuracies = [], []

        def fetch(first: int, metrics: step.StepMetrics) -> float:
            loss = np.asarray(metrics.loss).reshape(len(epochs), -1)
            for place, epoch in counting.items():
                finite = np.isfinite(loss[place])
                if not finite.all() and place not in errors:
                    bad = int(finite.argmin())
                    errors[place] = NonFiniteLossError(
                        f"The training loss became {loss[place, bad]} in epoch {epoch},"
                        f" step {first + bad + 1} of {self._steps}. {_WAY_OUT}"
                    )
            losses.append(loss)
            accuracies.append(np.asarray(metrics.accuracy).reshape(loss.shape))
            now = time.perf_counter()
            self._listener.steps_done(
                min(counting.values()),
                first + loss.shape[1],
                self._steps,
                float(loss[list(counting), -1].mean()),
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
            if len(errors) == len(counting):
                break
        assert pending is not None, "an epoch has at least one step"
        last = pending

        def finish() -> tuple[list[float], list[float], float]:
            end = fetch(*last)
            # In float64 and in one order, whatever the length of the chunks.
            return _means(losses), _means(accuracies), end

        return state, finish

    def _numbers(self, epochs: Sequence[int | None]) -> np.ndarray:
        return self._for_each([epoch or 0 for epoch in epochs], np.int32)

    def _for_each(self, values: Sequence[Any], dtype: Any) -> np.ndarray:
        """Return a value of each replica as the mapped functions take them."""
        array = np.array(values, dtype)
        return array if self._devices.replicas > 1 else array.reshape(())

    def _compile(self, state: TrainState) -> None:
        """Compile what an epoch needs, so that no epoch's time holds a compilation."""
        lengths = {length for _, length in _chunks(self._steps, self._chunk)}
        if self._compiled.keys() >= lengths:
            return
        begin = time.perf_counter()
        self._listener.compiling()
        epochs = self._numbers([None] * self._devices.replicas)
        indices = self._devices.split(self._order(self._order_key, epochs))
        arguments = (state, self._data, indices, np.int32(0), self._step_key)
        for length in lengths:
            train_steps = step.make_train_steps(
                train_step=self._train_step, steps=length
            )
            self._compiled[length] = self._devices.compile(
                self._devices.map(train_steps, (0, None, 0, None, 0)),
                arguments,
                split=2,
                donate=True,
            )
        judged = self._evaluate(*state.weights, self._val, rehearse=True)
        jax.block_until_ready(self._score(*judged, self._val_labels))
        self._listener.compiled(time.perf_counter() - begin)


_WAY_OUT = (
    "Nothing of this epoch is saved. The usual remedy is a smaller "
    "--config.phases[i].optimizer.learning_rate, with another --workdir."
)


def _chunks(steps: int, chunk: int) -> Iterator[tuple[int, int]]:
    """Cut an epoch into calls: pairs of the first step and the number of steps."""
    for first in range(0, steps, chunk):
        yield first, min(chunk, steps - first)


def _means(chunks: list[np.ndarray]) -> list[float]:
    """Return the mean of each replica, of arrays [replicas, steps]."""
    return [
        float(np.concatenate(parts).mean(dtype=np.float64))
        for parts in zip(*chunks, strict=True)
    ]
