"""Epochs of a phase: steps in chunks, validation, the monitors.

The images are on the devices as uint8; a step gathers its batch by index. The host
never waits for the chunk that it has just dispatched: it reads the metrics of the one
before, and those of the last chunk while validation is running.
"""

import functools
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import numpy as np
from jaxtyping import Array

from mnist_jax import data, models
from mnist_jax.config import Experiment
from mnist_jax.console import TrainingProgress
from mnist_jax.data import augment
from mnist_jax.devices import parallel
from mnist_jax.devices.compiler import short_program_options
from mnist_jax.errors import UserError
from mnist_jax.training import features, step
from mnist_jax.training import state as train_state
from mnist_jax.training.evaluator import Evaluator
from mnist_jax.training.keys import (
    Keys,
    epoch_order,
    permutation_on_host,
    stack_keys,
)
from mnist_jax.training.phase import Phase
from mnist_jax.training.state import TrainState

_WAY_OUT = (
    "Nothing of this epoch is saved. The usual remedy is a smaller "
    "--config.phases[i].optimizer.learning_rate, with another --workdir."
)


def check_large(dataset: data.Dataset, *, seeds: int) -> None:
    """Raise a UserError if a set that is too large for the memory cannot be trained on.

    The images of a call are gathered for one device and one order.
    """
    devices = jax.device_count()
    if isinstance(dataset.train.images, data.Rows) and max(devices, seeds) > 1:
        raise UserError(
            "Several devices, or several seeds at once, need all training images in "
            "memory: raise --config.data.images_megabytes, or train on one device "
            "(CUDA_VISIBLE_DEVICES=0), with --notogether."
        )


class NonFiniteLossError(UserError):
    """The loss became NaN or infinite, so that further steps would train nothing."""


def default_steps_per_call(
    backend: str, convolutions: str | None, steps: int, *, large: bool = False
) -> int:
    """Return how many of the `steps` of an epoch one call computes by default.

    Of a large set, the images of a call are in memory, so that an epoch is too much.
    """
    if backend != "cpu" and not large:
        return steps
    if backend == "cpu" and convolutions != "onednn":
        return 1
    # Few enough that ctrl-C takes effect soon, and if possible a divisor, since a
    # shorter call at the end is another program to compile.
    few = range(10, 41)
    return max((n for n in few if steps % n == 0), default=20)


Outcome = list[dict[str, Any]] | NonFiniteLossError
"""Of an epoch: its records for metrics.jsonl, `train` and `val`, or an error."""


class Trainer:
    """The compiled functions of one phase over one data set.

    It trains one seed, or several at once: states then have a leading axis, from
    `stack`, over which the functions of one seed are mapped.

    Args:
        config: the experiment.
        model: the network.
        phase: the phase to train.
        dataset: the images.
        states: of the seeds, at the beginning of the phase or at the end of an epoch.
        keys: the random streams of each seed.
        evaluator: of the whole network, on all devices.
        progress: shows how far the training is.
        devices: share a batch, or the seeds; by default as many as can do so equally.

    Attributes:
        feature_seconds: spent on computing the inputs of the phase.
    """

    def __init__(
        self,
        config: Experiment,
        model: models.Model,
        phase: Phase,
        dataset: data.Dataset,
        *,
        states: Sequence[TrainState],
        keys: Sequence[Keys],
        evaluator: Evaluator,
        progress: TrainingProgress,
        devices: parallel.Devices | None = None,
    ):
        begin = time.perf_counter()
        apply_fn, train, self._val = jax.block_until_ready(
            features.inputs_of_phase(config, model, phase, dataset, states)
        )
        self.feature_seconds = time.perf_counter() - begin  # for the inputs
        size, batch_size = len(train.labels), phase.config.batch_size
        devices = devices or parallel.choose(
            config.parallel, batch_size, seeds=len(states)
        )
        self._devices, self._progress = devices, progress
        if apply_fn != model.apply or devices != evaluator.devices:
            sizes = {"batch_size": config.eval_batch_size, "devices": devices}
            evaluator = Evaluator(apply_fn, model.loss, **sizes)
        self._evaluator = evaluator
        self._large = isinstance(train.images, data.Rows)
        self._data = train if self._large else devices.replicate(train)
        # The evaluator puts one batch of images at a time on the devices.
        self._val_labels = devices.replicate(self._val.labels)
        stacked = stack_keys(keys, devices.replicas)
        self._order_key, self._step_key = stacked.order, devices.place(stacked.step)
        self._steps = phase.steps_per_epoch(size)
        self._images_per_epoch = self._steps * batch_size
        steps_per_call = config.steps_per_call or default_steps_per_call(
            jax.default_backend(), model.convolutions, self._steps, large=self._large
        )
        self._chunk = min(self._steps, steps_per_call)
        learning_rate_fn = phase.learning_rate_fn(self._steps)
        phase_steps = phase.config.epochs * self._steps
        augment_fn = augment.create(config.augment)
        self._train_step = step.make_train_step(
            apply_fn=apply_fn,
            loss_fn=model.loss,
            optimizer=phase.optimizer,
            learning_rate_fn=learning_rate_fn,
            augment_fn=augment_fn
            and (lambda key, x, at, y: augment_fn(key, x, at / phase_steps, y)),
            label_smoothing=phase.config.label_smoothing,
            ema_decay=phase.config.ema_decay,
            batch_norm_momentum=phase.config.batch_norm_momentum,
            groups=phase.groups,
        )

        def score(logits: Array, losses: Array, labels: Array) -> tuple[Array, Array]:
            return losses.mean(), step.accuracy(logits, labels)

        def learning_rate(state: TrainState) -> Any:
            return learning_rate_fn(state.phase_step - 1) * state.plateau.scale

        sizes = {"size": size, "batch_size": batch_size, "steps": self._steps}
        order = functools.partial(epoch_order, **sizes)
        short = short_program_options()
        watch = train_state.make_watch(phase, config.best.monitor)
        self._score = jax.jit(devices.map(score, (0, 0, None)))
        self._learning_rate = jax.jit(devices.map(learning_rate, (0,)))
        if self._large:
            self._order = functools.partial(order, permutation=permutation_on_host)
        else:
            self._order = jax.jit(devices.map(order, (0, 0)), compiler_options=short)
        self._watch = jax.jit(devices.map(watch, (0, 0, 0)), compiler_options=short)
        self._compiled: dict[int, Callable[..., Any]] = {}

    def stack(self, states: Sequence[TrainState]) -> TrainState:
        """Return the states of the seeds as one, as `epoch` expects it."""
        if self._devices.replicas == 1:
            return states[0]
        missing = self._devices.replicas - len(states)
        filled = jax.device_get([*states, *[states[-1]] * missing])
        return jax.tree.map(lambda *leaves: np.stack(leaves), *filled)

    def unstack(self, state: TrainState) -> list[TrainState]:
        """Return the state of each replica: those of the seeds come first."""
        if self._devices.replicas == 1:
            return [state]
        state = jax.device_get(state)
        # Copies: a seed that has ended must not keep the states of all others alive.
        return [
            jax.tree.map(lambda leaf, place=place: np.array(leaf[place]), state)
            for place in range(self._devices.replicas)
        ]

    def epoch(
        self, state: TrainState, numbers: Sequence[int | None]
    ) -> tuple[TrainState, list[Outcome]]:
        """Train for an epoch, validate, and update the monitors.

        Args:
            state: at the end of the previous epoch; its buffers are donated.
            numbers: the number of the epoch for each seed, counted from 1 over all
                phases. None for a seed that has ended, whose results are to be ignored.

        Returns:
            The new state, and the outcome for each seed.
        """
        # Devices may have more places than there are seeds.
        numbers = [*numbers, *[None] * (self._devices.replicas - len(numbers))]
        state = self._devices.place(state)
        self._compile(state)
        begin = time.perf_counter()
        metrics = _EpochMetrics(numbers, self._steps)
        state, last_chunk = self._train(state, metrics)
        if metrics.all_failed:
            return state, metrics.outcomes()
        if self._devices.must_wait:
            self._fetch(metrics, *last_chunk)
        evaluated = self._evaluator(*state.weights, self._val)
        val_loss, val_accuracy = self._score(*evaluated, self._val_labels)
        if not self._devices.must_wait:
            self._fetch(metrics, *last_chunk)
        trained = time.perf_counter()
        metrics.check_validation(np.atleast_1d(val_loss))
        losses, accuracies = metrics.means()
        figures = {
            "train_loss": self._for_each(losses, np.float32),
            "val_loss": val_loss,
            "val_accuracy": val_accuracy,
        }
        rates = np.atleast_1d(self._learning_rate(state))
        watched = self._watch(state, figures, self._epochs(numbers))
        train = {
            "loss": losses,
            "accuracy": accuracies,
            "learning_rate": rates,
            "seconds": trained - begin,
            "images_per_second": self._images_per_epoch / (trained - begin),
        }
        val = {
            "loss": np.atleast_1d(val_loss),
            "accuracy": np.atleast_1d(val_accuracy),
            "seconds": time.perf_counter() - trained,
        }
        return state.replace(**watched), metrics.outcomes(train=train, val=val)

    def _train(
        self, state: TrainState, metrics: "_EpochMetrics"
    ) -> tuple[TrainState, tuple[int, step.StepMetrics]]:
        """Dispatch the steps of an epoch, until all seeds have failed.

        Also returns the first step and the metrics of the last chunk, which are still
        to be fetched.
        """
        indices = self._indices(metrics.numbers)
        pending = None
        for first, length in _chunks(self._steps, self._chunk):
            arguments = self._inputs(indices, first, length)
            state, chunk = self._compiled[length](state, *arguments, self._step_key)
            if self._devices.must_wait:
                jax.block_until_ready(chunk)
            if pending is not None:
                self._fetch(metrics, *pending)
            pending = (first, chunk)
            if metrics.all_failed:
                break
        assert pending is not None, "an epoch has at least one step"
        return state, pending

    def _indices(self, numbers: Sequence[int | None]) -> Any:
        """Return the indices of the images of each step of an epoch.

        Of a large set, they are on the host: a device would return a part of them only
        after the call that it is computing.
        """
        order = self._order(self._order_key, self._epochs(numbers))
        return np.asarray(order) if self._large else self._devices.split(order)

    def _inputs(self, indices: Any, first: int, length: int) -> tuple[Any, Any, Any]:
        """Return the images, the indices of each step, and the first step of a call.

        Of a large set, these are the images of the call alone, gathered on the host
        while the device computes the previous call.
        """
        if not self._large:
            return self._data, indices, np.int32(first)
        rows = indices[first : first + length]
        images, labels = (part[rows.ravel()] for part in self._data)
        here = np.arange(rows.size, dtype=np.int32).reshape(rows.shape)
        return step.Batch(images, labels), here, np.int32(0)

    def _fetch(
        self, metrics: "_EpochMetrics", first: int, chunk: step.StepMetrics
    ) -> None:
        """Wait for the metrics of a chunk, and show the progress."""
        done, loss = metrics.add(first, chunk)
        epoch = min(filter(None, metrics.numbers))
        self._progress.steps_done(epoch, done, self._steps, loss)

    def _epochs(self, numbers: Sequence[int | None]) -> np.ndarray:
        return self._for_each([number or 0 for number in numbers], np.int32)

    def _for_each(self, values: Any, dtype: Any) -> np.ndarray:
        """Return a value of each seed in the form that the mapped functions take."""
        array = np.array(values, dtype)
        return array if self._devices.replicas > 1 else array.reshape(())

    def _compile(self, state: TrainState) -> None:
        """Compile all functions of an epoch, so that no epoch's time includes it."""
        lengths = {length for _, length in _chunks(self._steps, self._chunk)}
        if self._compiled.keys() >= lengths:
            return
        begin = time.perf_counter()
        self._progress.compiling()
        indices = self._indices([None] * self._devices.replicas)
        for length in lengths:
            arguments = (state, *self._inputs(indices, 0, length), self._step_key)
            train_steps = step.make_train_steps(
                train_step=self._train_step, steps=length
            )
            axes = (0, None, 0, None, 0)
            self._compiled[length] = self._devices.compile(
                train_steps, axes, arguments, split=2, donate=True
            )
        evaluated = self._evaluator(*state.weights, self._val, rehearse=True)
        jax.block_until_ready(self._score(*evaluated, self._val_labels))
        self._progress.compiled(time.perf_counter() - begin)


class _EpochMetrics:
    """The metrics of an epoch's steps for each seed, and the first error of each."""

    def __init__(self, numbers: Sequence[int | None], steps: int):
        self.numbers, self._steps = numbers, steps
        self._running = [place for place, n in enumerate(numbers) if n is not None]
        self._errors: dict[int, NonFiniteLossError] = {}
        self._losses: list[np.ndarray] = []
        self._accuracies: list[np.ndarray] = []

    @property
    def all_failed(self) -> bool:
        return len(self._errors) == len(self._running)

    def add(self, first: int, chunk: step.StepMetrics) -> tuple[int, float]:
        """Add the steps from `first` on; return the steps done and the last loss."""
        loss = np.asarray(chunk.loss).reshape(len(self.numbers), -1)
        for place in self._running:
            finite = np.isfinite(loss[place])
            if not finite.all() and place not in self._errors:
                bad = int(finite.argmin())
                self._errors[place] = NonFiniteLossError(
                    f"The training loss became {loss[place, bad]} in epoch "
                    f"{self.numbers[place]}, step {first + bad + 1} of {self._steps}. "
                    f"{_WAY_OUT}"
                )
        self._losses.append(loss)
        self._accuracies.append(np.asarray(chunk.accuracy).reshape(loss.shape))
        return first + loss.shape[1], float(loss[self._running, -1].mean())

    def check_validation(self, losses: np.ndarray) -> None:
        """Note an error for each seed whose validation loss is not finite."""
        for place in self._running:
            if not np.isfinite(losses[place]) and place not in self._errors:
                self._errors[place] = NonFiniteLossError(
                    f"The validation loss became {losses[place]} in epoch "
                    f"{self.numbers[place]}. {_WAY_OUT}"
                )

    def means(self) -> Iterator[np.ndarray]:
        """Yield the mean loss and the mean accuracy of each seed."""
        # In float64 and in one order, whatever the length of the chunks.
        for chunks in (self._losses, self._accuracies):
            yield np.concatenate(chunks, axis=1).mean(axis=1, dtype=np.float64)

    def outcomes(self, **splits: dict[str, Any]) -> list[Outcome]:
        """Return the outcome for each seed.

        The figures of each split are numbers, or arrays of one for each seed.
        """
        outcomes: list[Outcome] = [[] for _ in self.numbers]
        for place in self._running:
            outcomes[place] = self._errors.get(place) or [
                {"epoch": self.numbers[place], "split": split}
                | {k: float(v[place] if np.ndim(v) else v) for k, v in figures.items()}
                for split, figures in splits.items()
            ]
        return outcomes


def _chunks(steps: int, chunk: int) -> Iterator[tuple[int, int]]:
    """Divide an epoch into calls: pairs of the first step and the number of steps."""
    for first in range(0, steps, chunk):
        yield first, min(chunk, steps - first)
