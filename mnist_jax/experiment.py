"""The story of one run, or of several seeds' together, readable top to bottom.

Data, model, phases of training, one look at the test set, report. Whatever happens in
between, the same call with the same run folder goes on where it was.
"""

import contextlib
import dataclasses
import functools
import logging
import time
import types
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
from rich.console import Console

from mnist_jax import console, data, models, pretrained, report
from mnist_jax.config import Experiment, to_json, to_stored
from mnist_jax.config import parse as parse_config
from mnist_jax.data import augment
from mnist_jax.devices import parallel, processes
from mnist_jax.errors import UserError
from mnist_jax.models import operations
from mnist_jax.report import narration
from mnist_jax.runs import events
from mnist_jax.runs import results as run_results
from mnist_jax.runs.folder import LOCATION_FIELDS, RunFolder, differences
from mnist_jax.runs.journal import Journal, read_convolutions
from mnist_jax.training import features, loop, state
from mnist_jax.training.loop import NonFiniteLossError
from mnist_jax.training.phase import Phase, check_batch_size, make_phases
from mnist_jax.training.predict import Evaluate, make_evaluate
from mnist_jax.training.state import TrainState

LOGGER = logging.getLogger(__name__)


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

    A second call with the same arguments resumes a run that was stopped, and does
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


def run_seeds(
    config: Experiment,
    workdirs: Mapping[int, Path | str],
    *,
    commands: Mapping[int, str] = types.MappingProxyType({}),
    terminal: Console | None = None,
) -> dict[int, dict[str, Any] | NonFiniteLossError]:
    """Train an experiment with several seeds in one program, otherwise as `run` does.

    Args:
        config: the experiment, but for its seed.
        workdirs: the run folder of each seed.
        commands: for each seed, the command line for environment.json; by default that
            of this process.
        terminal: shows the progress; standard output by default.

    Returns:
        For each seed, the contents of results.json or, if the loss became infinite
        or NaN, the error. The other seeds are not affected.

    Raises:
        UserError: the config, the data or one of the folders cannot be used.
    """
    if len(workdirs) > 1 and processes.count() > 1:
        raise UserError("Several processes train one seed at a time, by run.py.")
    terminal = terminal or console.start()
    model, phases = check(config)
    if not processes.is_first():
        return {config.seed: _train_with_first_process(config, model, phases)}
    journals = [
        Journal(
            dataclasses.replace(config, seed=seed),
            RunFolder(workdir),
            alone=len(workdirs) == 1,
        )
        for seed, workdir in workdirs.items()
    ]
    with processes.others_waiting() as go, contextlib.ExitStack() as opened:
        if unfinished := [journal for journal in journals if not _is_finished(journal)]:
            dataset = _load(config, phases)
            setup = _prepare(config, model, phases, dataset, journals=unfinished)
            for journal in unfinished:
                opened.enter_context(journal.open())
            if untrained := [j for j in unfinished if j.results is None]:
                _describe(untrained, setup, commands)
                _train(
                    untrained, setup, functools.partial(go, setup.settings), terminal
                )
            _test_and_report(unfinished, setup)
    return {j.config.seed: j.error or j.results or {} for j in journals}


@dataclasses.dataclass(frozen=True)
class _Setup:
    """What the seeds of an experiment have in common."""

    config: Experiment
    model: models.Model
    phases: Sequence[Phase]
    dataset: data.Dataset
    choice: operations.Choice
    weights: pretrained.Weights | None = None

    @property
    def settings(self) -> dict[str, Any]:
        """What the other processes need to train the same network."""
        form = "onednn" if self.choice.form == "onednn" else "xla"
        return to_json(self.config) | {"convolutions": form}

    @functools.cached_property
    def evaluate(self) -> Evaluate:
        """What computes logits and losses of any number of images, on all devices."""
        return make_evaluate(
            apply_fn=self.model.apply,
            loss_fn=self.model.loss,
            batch_size=self.config.eval_batch_size,
            devices=parallel.every(self.config.parallel),
        )


def _prepare(
    config: Experiment,
    model: models.Model,
    phases: Sequence[Phase],
    dataset: data.Dataset,
    *,
    convolutions: str | None = None,
    journals: Sequence[Journal] = (),
) -> _Setup:
    """Choose what computes convolutions, and read weights to begin with.

    Runs keep to the convolutions that they began with; `convolutions` overrides the
    config's field.
    """
    choice = operations.choose(
        convolutions or config.convolutions,
        dtype=config.dtype,
        begun_with=read_convolutions(journals),
    )
    model = dataclasses.replace(model, convolutions=choice.form)
    weights = None
    if not all(journal.has_checkpoint() for journal in journals):
        weights = pretrained.load(config.model, model)
    return _Setup(config, model, phases, dataset, choice, weights)


def _describe(
    journals: Sequence[Journal], setup: _Setup, commands: Mapping[int, str]
) -> None:
    """Say in each run's log, and write in its folder, what is going to be trained."""
    for journal in journals:
        config, folder = journal.config, journal.folder
        command = commands.get(config.seed)
        with journal.about():
            narration.describe(
                config, folder, setup.model, setup.dataset, setup.choice, command
            )
            if setup.weights and not journal.has_checkpoint():
                narration.say_weights(setup.weights)


def _train(
    journals: Sequence[Journal],
    setup: _Setup,
    ready: Callable[[], None],
    terminal: Console,
) -> None:
    """Run the phases from wherever the journals say that they stand.

    Runs that stand in a later phase than others wait for these at its beginning.

    Each journal is left with the final state, or with the error that ended its run.
    `ready` is called when a run folder was read.
    """
    model, phases = setup.model, setup.phases
    put = setup.weights.put if setup.weights else None
    begin = state.make_begin(model, phases[0], put)
    try:
        for journal in journals:
            with journal.about():
                journal.begin(begin, lambda i: state.shapes(model, phases[i]), ready)
        records = [journal.record for journal in journals]
        last = min(records, key=lambda record: (record.phase, record.phase_epochs))
        left = phases[last.phase :]
        with console.TrainingProgress(
            terminal,
            # Earlier phases may have ended early.
            epochs=last.epoch - last.phase_epochs + sum(p.epochs for p in left),
            done=last.epoch,
        ) as progress:
            for index, phase in enumerate(left, start=last.phase):
                here = [j for j in journals if j.record.phase <= index and not j.error]
                for journal in here:
                    journal.begin_phase(index, phase)
                if here:
                    _train_phase(here, phase, setup, progress)
                for journal in here:
                    journal.end_phase(phase)
    finally:
        for journal in journals:
            journal.close()


def _train_phase(
    journals: Sequence[Journal],
    phase: Phase,
    setup: _Setup,
    progress: console.TrainingProgress,
) -> None:
    """Train the runs that have epochs left in a phase, epoch by epoch."""
    config, model = setup.config, setup.model
    narration.describe_phase(phase, journals[0].state.params)
    begin = time.perf_counter()
    apply_fn, train_data, val_data = jax.block_until_ready(
        features.inputs_of_phase(
            config, model, phase, setup.dataset, [journal.state for journal in journals]
        )
    )
    for journal in journals:
        journal.record.feature_seconds += time.perf_counter() - begin
    replicas = [journal for journal in journals if not _has_ended(journal, phase)]
    if len(replicas) > 1:
        devices = parallel.share_replicas(len(replicas))
        narration.describe_together(model)
    else:
        devices = parallel.choose(config.parallel, phase.batch_size)
    if replicas:
        evaluate = setup.evaluate  # the final test's: compiled once for both
        if apply_fn != model.apply or devices != parallel.every(config.parallel):
            evaluate = make_evaluate(
                apply_fn=apply_fn,
                loss_fn=model.loss,
                batch_size=config.eval_batch_size,
                devices=devices,
            )
        trainer = loop.Trainer(
            apply_fn=apply_fn,
            loss_fn=model.loss,
            phase=phase,
            data=train_data,
            val=val_data,
            augment_fn=augment.create(config.augment),
            devices=devices,
            evaluate=evaluate,
            steps_per_call=config.steps_per_call
            or loop.default_steps_per_call(
                jax.default_backend(),
                model.convolutions,
                phase.steps_per_epoch(len(train_data.labels)),
            ),
            monitor=config.best.monitor,
            keys=loop.stack_keys([j.keys for j in replicas], devices.replicas),
            listener=progress,
        )
        current = state.stack([j.state for j in replicas], devices.replicas)
        going = replicas
        while going:
            # Of those that fill up the devices, nobody wants the results.
            epochs = [j.record.epoch + 1 if j in going else None for j in replicas]
            epochs += [None] * (devices.replicas - len(replicas))
            current, outcomes = trainer.run_epochs(current, epochs)
            states = state.unstack(current, devices.replicas)
            for journal, each, outcome in zip(replicas, states, outcomes, strict=False):
                if journal in going:
                    _record(journal, phase, each, outcome)
            going = [j for j in going if not _has_ended(j, phase)]
    progress.skip(phase.epochs - max(j.record.phase_epochs for j in journals))


def _record(
    journal: Journal, phase: Phase, current: TrainState, outcome: loop.Outcome
) -> None:
    """Write down how an epoch of a run came out."""
    if isinstance(outcome, NonFiniteLossError):
        journal.fail(outcome)
        return
    about = {"phase": phase.name, "time": time.time()}
    records = [about | entry for entry in outcome]
    with journal.about():
        journal.write(current, records)
        LOGGER.info(narration.epoch_line(records, current))


def _has_ended(journal: Journal, phase: Phase) -> bool:
    """Return whether a run has no epochs left in a phase."""
    if journal.error or journal.record.phase_epochs >= phase.epochs:
        return True
    if journal.state.early_stopping.stopped:
        with journal.about():
            LOGGER.info(narration.stop_line(phase, journal.state))
        return True
    return False


def _test_and_report(journals: Sequence[Journal], setup: _Setup) -> None:
    """Test the runs that have not been tested, and write their reports."""
    model, dataset, evaluate = setup.model, setup.dataset, setup.evaluate
    for journal in (j for j in journals if not j.error):
        path = journal.folder.path
        with journal.about():
            if journal.results is None:
                journal.results = run_results.test(journal, model, dataset, evaluate)
            report.write(path, dataset.test.images, to_stored(Experiment()))
            narration.say_result(journal.folder, journal.results)


def _is_finished(journal: Journal) -> bool:
    """Check a run folder against the config, and say if nothing is left to do."""
    folder = journal.folder
    folder.check_config(journal.config)
    journal.results = folder.read_results()
    if journal.results is None or not folder.report.exists():
        return False
    with journal.about():
        LOGGER.info("%s is finished: nothing to do.", folder.path)
        narration.say_result(folder, journal.results)
    return True


def _train_with_first_process(
    config: Experiment, model: models.Model, phases: list[Phase]
) -> dict[str, Any]:
    """Train and test with the first process, which does all else; return nothing."""
    console.be_quiet()
    dataset = _load(config, phases)
    if (there := processes.wait_for_first()) is None:
        return {}
    if different := differences(there, to_json(config), but=LOCATION_FIELDS):
        raise UserError(
            f"Process 0 was given another config:\n{different}\n"
            "All processes need the same flags, but for --process_id."
        )
    convolutions = there["convolutions"]
    setup = _prepare(config, model, phases, dataset, convolutions=convolutions)
    journal = Journal(config, None)
    _train([journal], setup, lambda: None, Console(quiet=True))
    return run_results.test(journal, setup.model, dataset, setup.evaluate)


def check(config: Experiment) -> tuple[models.Model, list[Phase]]:
    """Build the network and the phases, and reject what can be rejected before work.

    Raises:
        UserError: a field contradicts another one or the network.
    """
    model = models.create(config.model, data.task(config.data), dtype=config.dtype)
    phases = make_phases(config.phases)
    parallel.check_available()  # without which the parameters have no names
    params, _ = model.shapes
    for phase in phases:
        phase.check_names(params)
    augment.create(config.augment)
    if config.log.tensorboard:
        events.check_installed()
    return model, phases


def _load(config: Experiment, phases: list[Phase]) -> data.Dataset:
    """Find a device and the images, and reject batches that these cannot fill.

    Raises:
        UserError: one of them is not there, or a batch is too large.
    """
    parallel.check_available()
    dataset = data.load(config.data)
    for index, phase in enumerate(phases):
        check_batch_size(phase, index, train_size=len(dataset.train))
    return dataset
