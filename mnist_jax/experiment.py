"""The story of a run, or of several seeds together, readable from top to bottom.

Data, network, phases of training, one look at the test set, report. If a run was
interrupted, the same call with the same run folder resumes it.
"""

import contextlib
import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from mnist_jax import console, data, models, pretrained, report
from mnist_jax.config import Experiment, to_json
from mnist_jax.config import parse as parse_config
from mnist_jax.data import augment
from mnist_jax.devices import parallel, processes, settings
from mnist_jax.errors import UserError
from mnist_jax.models import operations
from mnist_jax.report import training_images
from mnist_jax.runs import events
from mnist_jax.runs import results as run_results
from mnist_jax.runs.run import Run, begun_convolutions
from mnist_jax.training import phase, trainer
from mnist_jax.training.evaluator import Evaluator
from mnist_jax.training.phase import Phase
from mnist_jax.training.state import make_begin
from mnist_jax.training.trainer import NonFiniteLossError, Trainer

LOGGER = console.LOGGER


def parse(values: Any) -> Experiment:
    """Return the experiment that a config file and flags describe.

    Args:
        values: a ConfigDict, or nested dicts and lists; a missing field has its
            default.

    Raises:
        ConfigError: a field is unknown, or has a value that it cannot have.
    """
    config = parse_config(values, Experiment)
    return dataclasses.replace(config, model=models.complete(config.model))


def run(
    config: Experiment, workdir: Path | str, *, terminal: Console | None = None
) -> dict[str, Any]:
    """Train and test an experiment, and write everything to its run folder.

    A second call with the same arguments resumes a run that was interrupted, and does
    nothing if the run is finished.

    Args:
        config: the experiment, from `parse`.
        workdir: the run folder; created if missing.
        terminal: shows the progress; standard output by default.

    Returns:
        The contents of results.json.

    Raises:
        UserError: the config, the data or the folder cannot be used, or the loss
            became infinite or NaN.
    """
    outcome = run_seeds(config, {config.seed: workdir}, terminal=terminal)[config.seed]
    if isinstance(outcome, NonFiniteLossError):
        raise outcome
    return outcome


@settings.defaults()
def run_seeds(
    config: Experiment,
    workdirs: Mapping[int, Path | str],
    *,
    terminal: Console | None = None,
) -> dict[int, dict[str, Any] | NonFiniteLossError]:
    """Train an experiment with several seeds in one program, otherwise as `run` does.

    `workdirs` has the run folder of each seed.

    Returns:
        For each seed, the contents of results.json or, if the loss became infinite or
        NaN, the error, which does not affect the other seeds.
    """
    if len(workdirs) > 1 and processes.count() > 1:
        raise UserError("Several processes train one seed at a time, by run.py.")
    terminal = terminal or console.start(Console(quiet=not processes.is_first()))
    model, phases = check(config)
    processes.check_same(repr(config))
    runs = [
        Run(dataclasses.replace(config, seed=seed), workdir, seeds=len(workdirs))
        for seed, workdir in workdirs.items()
    ]
    if unfinished := [each for each in runs if not each.is_finished()]:
        dataset = data.load(config.data)
        phase.check_batch_sizes(phases, train_size=len(dataset.train))
        trainer.check_large(dataset, seeds=len(unfinished))
        choice = operations.choose(
            config.convolutions,
            dtype=config.dtype,
            begun_with=begun_convolutions(unfinished),
        )
        model = dataclasses.replace(model, convolutions=choice.form)
        weights = None
        if not all(each.has_checkpoint() for each in unfinished):
            weights = pretrained.load(config.model, model)
        evaluator = Evaluator.of_model(model, config)
        with contextlib.ExitStack() as opened:
            for each in unfinished:
                opened.enter_context(each.open())
            if untrained := [each for each in unfinished if each.results is None]:
                _begin(untrained, model, phases, dataset, choice, weights)
                _train(untrained, model, phases, dataset, evaluator, terminal)
            for each in unfinished:
                if not each.error:
                    _test_and_report(each, model, dataset, evaluator)
    return {each.config.seed: each.error or each.results or {} for each in runs}


def check(config: Experiment) -> tuple[models.Model, list[Phase]]:
    """Build the network and the phases; UserError if the config does not allow it."""
    parallel.check_available()
    model = models.create(config.model, data.task(config.data), dtype=config.dtype)
    phases = phase.create_all(config.phases, model.shapes[0])
    phase.check_label_smoothing(phases, model)
    augment.create(config.augment)
    if config.log.tensorboard:
        events.check_installed()
    return model, phases


def _begin(
    runs: Sequence[Run],
    model: models.Model,
    phases: Sequence[Phase],
    dataset: data.Dataset,
    choice: operations.Choice,
    weights: pretrained.Weights | None,
) -> None:
    """Describe each run in its folder, and restore it or draw its first weights."""
    begin = make_begin(model, phases[0], weights.put if weights else None)
    for each in runs:
        with each.about():
            if each.writes:
                if each.describe(model, dataset, choice, weights):
                    training_images.write(each.folder.path, each.config, dataset)
            if not each.restore(model, phases):
                each.state = begin(each.keys.init)


def _train(
    runs: Sequence[Run],
    model: models.Model,
    phases: Sequence[Phase],
    dataset: data.Dataset,
    evaluator: Evaluator,
    terminal: Console,
) -> None:
    """Train each run through its phases; all begin each phase together."""
    first = min(runs, key=lambda each: (each.phase, each.phase_epochs))
    left = phases[first.phase :]
    # Earlier phases may have ended early.
    epochs = first.epoch - first.phase_epochs + sum(p.config.epochs for p in left)
    with console.TrainingProgress(terminal, epochs=epochs, done=first.epoch) as bar:
        for index, current in enumerate(left, start=first.phase):
            here = [each for each in runs if each.phase <= index and not each.error]
            for each in here:
                each.begin_phase(index, current)
            if training := [each for each in here if not each.has_ended(current)]:
                if current.groups:
                    LOGGER.info(current.describe(model.shapes[0]))
                trainer = Trainer(
                    training[0].config,
                    model,
                    current,
                    dataset,
                    states=[each.state for each in training],
                    keys=[each.keys for each in training],
                    evaluator=evaluator,
                    progress=bar,
                )
                _train_phase(training, current, trainer)
            bar.skip(current.config.epochs - max(each.phase_epochs for each in runs))
            for each in here:
                each.end_phase(current)


def _train_phase(runs: Sequence[Run], current: Phase, trainer: Trainer) -> None:
    """Train the runs in a phase, epoch by epoch, until each has ended it."""
    for each in runs:
        each.feature_seconds += trainer.feature_seconds
    states = trainer.stack([each.state for each in runs])
    while not all(each.has_ended(current) for each in runs):
        # Runs that have ended are computed with the others, but not saved.
        numbers = [None if each.has_ended(current) else each.epoch + 1 for each in runs]
        states, outcomes = trainer.epoch(states, numbers)
        for each, number, state, outcome in zip(
            runs, numbers, trainer.unstack(states), outcomes, strict=False
        ):
            if number is not None:
                each.save(current, state, outcome)


def _test_and_report(
    run: Run, model: models.Model, dataset: data.Dataset, evaluator: Evaluator
) -> None:
    """Test a run that has not been tested, and write its report."""
    with run.about():
        if run.results is None:
            run_results.test(run, model, dataset, evaluator)
        if run.writes:
            report.write(run.folder.path, dataset.test.images, to_json(Experiment()))
            run.say_result()
