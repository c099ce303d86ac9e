"""The story of one run, readable top to bottom.

Data, model, phases of training, one look at the test set, report. Whatever happens in
between, the same call with the same run folder goes on where it was.
"""

import dataclasses
import functools
import json
import logging
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np
from rich.console import Console

from mnist_jax import console, data, evaluation, files, models, pretrained, report, tree
from mnist_jax.config import ConfigError, Experiment, to_json, to_stored
from mnist_jax.config import parse as parse_config
from mnist_jax.data import augment
from mnist_jax.devices import failures, parallel, processes
from mnist_jax.errors import UserError
from mnist_jax.models import operations
from mnist_jax.report import narration
from mnist_jax.runs import weights as run_weights
from mnist_jax.runs.folder import RunFolder, differences
from mnist_jax.runs.journal import Journal, Record
from mnist_jax.training import features, loop, state
from mnist_jax.training.phase import Phase, check_batch_size
from mnist_jax.training.state import TrainState
from mnist_jax.training.step import Batch

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
    terminal = terminal or console.start()
    model, phases = check(config)
    if not processes.is_first():
        return _help(config, model, phases)
    folder = RunFolder(workdir)
    with processes.others_waiting() as go:
        folder.check_config(config)
        if (results := folder.read_results()) and folder.report.exists():
            LOGGER.info("%s is finished: nothing to do.", folder.path)
            narration.say_result(folder, results)
            return results
        dataset = _load(config, phases)
        choice = _choose(config, begun_with=folder.read_convolutions())
        model = dataclasses.replace(model, convolutions=choice.form)
        weights = None
        if not folder.has_checkpoint():
            weights = pretrained.load(config.model, model)
        with folder.lock(), console.log_to(folder.log):
            folder.check_config(config)  # again, now that nobody else writes it
            results = folder.read_results()
            if results is None:
                narration.describe(config, folder, model, dataset, choice)
                form = "onednn" if choice.form == "onednn" else "xla"
                shared = to_json(config) | {"convolutions": form}
                journal = Journal(folder, ready=functools.partial(go, shared))
                trained, record = train(
                    config,
                    journal,
                    model,
                    phases,
                    dataset,
                    weights=weights,
                    terminal=terminal,
                )
                results = test(config, folder, model, dataset, trained, record)
            report.write(folder.path, dataset.test.images, to_stored(Experiment()))
            narration.say_result(folder, results)
    return results


def _help(
    config: Experiment, model: models.Model, phases: list[Phase]
) -> dict[str, Any]:
    """Train and test with the first process, which does all else; return nothing."""
    console.be_quiet()
    dataset = _load(config, phases)
    if (there := processes.wait_for_first()) is None:
        return {}
    if different := differences(there, to_json(config)):
        raise UserError(
            f"Process 0 was given another config:\n{different}\n"
            "All processes need the same flags, but for --process_id."
        )
    choice = _choose(config, asked=there["convolutions"])
    model = dataclasses.replace(model, convolutions=choice.form)
    trained, record = train(
        config,
        Journal(None),
        model,
        phases,
        dataset,
        terminal=Console(quiet=True),
    )
    return test(config, None, model, dataset, trained, record)


def _load(config: Experiment, phases: list[Phase]) -> data.Dataset:
    """Find a device and the images, and refuse batches that these cannot fill.

    Raises:
        UserError: one of them is not there, or a batch is too large.
    """
    _check_device()
    dataset = data.load(config.data)
    for index, phase in enumerate(phases):
        check_batch_size(phase, index, train_size=len(dataset.train))
    return dataset


def _choose(
    config: Experiment, *, asked: str | None = None, begun_with: str | None = None
) -> operations.Choice:
    """Find out what computes convolutions; see `operations.choose`."""
    return operations.choose(
        asked or config.convolutions,
        dtype=config.dtype,
        divided=config.parallel == "jit" and jax.device_count() > 1,
        begun_with=begun_with,
    )


def check(config: Experiment) -> tuple[models.Model, list[Phase]]:
    """Build the network and the phases, and reject what can be rejected before work.

    Raises:
        UserError: a field contradicts another one or the network; the message names it.
    """
    model = models.create(config.model, dtype=config.dtype)
    if not config.phases:
        raise ConfigError("--config.phases is empty: there is nothing to train.")
    phases = [
        Phase.from_config(fields, flag=f"--config.phases[{index}]")
        for index, fields in enumerate(config.phases)
    ]
    if any(phase.freeze or phase.layer_rates for phase in phases):
        _check_device()  # without which the parameters have no names
        params, _ = jax.eval_shape(model.init, jax.random.key(0))
        for phase in phases:
            phase.check_names(params)
    augment.create(config.augment)
    return model, phases


def train(
    config: Experiment,
    journal: Journal,
    model: models.Model,
    phases: list[Phase],
    dataset: data.Dataset,
    *,
    terminal: Console,
    weights: pretrained.Weights | None = None,
) -> tuple[TrainState, Record]:
    """Run the phases from wherever the journal says they stand.

    Args:
        config: the experiment.
        journal: reads and writes checkpoints and metrics.
        model: the network.
        phases: of the training.
        dataset: its images.
        terminal: where the progress goes.
        weights: what a run that has no epoch yet begins with, if not all is drawn.

    Returns:
        The final state, and the record of all epochs.
    """
    begin = time.perf_counter()
    keys = loop.make_keys(config.seed)

    def initial_state(index: int) -> TrainState:
        create = functools.partial(state.create, phase=phases[index])
        if weights is None:
            return jax.jit(lambda key: create(*model.init(key)))(keys.init)
        LOGGER.info(
            "Of the parameters, %d arrays are those of %s (SHA-256 %s).",
            len(weights.arrays),
            weights.source,
            weights.sha256,
        )
        drawn = jax.jit(model.init)(keys.init)
        return jax.jit(create)(*weights.put(*drawn))

    try:
        current, record = journal.begin(initial_state)
        before = record.seconds
        with console.TrainingProgress(
            terminal,
            # Earlier phases may have ended early.
            epochs=record.epoch
            - record.phase_epochs
            + sum(phase.epochs for phase in phases[record.phase :]),
            done=record.epoch,
        ) as progress:
            for index in range(record.phase, len(phases)):
                phase = phases[index]
                if index > record.phase:
                    record.phase, record.phase_epochs = index, 0
                    current = state.begin_phase(current, phase)
                narration.describe_phase(phase, current.params)
                begin_phase = time.perf_counter()
                apply_fn, train_data, val_data = jax.block_until_ready(
                    take_apart(config, model, phase, dataset, current)
                )
                record.feature_seconds += time.perf_counter() - begin_phase
                trainer = loop.Trainer(
                    apply_fn=apply_fn,
                    phase=phase,
                    data=train_data,
                    val=val_data,
                    augment_fn=augment.create(config.augment),
                    devices=parallel.choose(config.parallel, phase.batch_size),
                    eval_batch_size=config.eval_batch_size,
                    steps_per_call=config.steps_per_call
                    or loop.default_steps_per_call(
                        jax.default_backend(),
                        model.convolutions,
                        phase.steps_per_epoch(len(train_data.labels)),
                    ),
                    monitor=config.best.monitor,
                    keys=keys,
                    listener=progress,
                )
                while record.phase_epochs < phase.epochs:
                    if current.early_stopping.stopped:
                        LOGGER.info(narration.stop_line(phase, current))
                        progress.skip(phase.epochs - record.phase_epochs)
                        break
                    current, records = trainer.run_epoch(current, record.epoch + 1)
                    records = [{"phase": phase.name} | entry for entry in records]
                    record.history += records
                    record.phase_epochs += 1
                    record.seconds = before + time.perf_counter() - begin
                    journal.write(current, record, records)
                    LOGGER.info(narration.epoch_line(records, current))
                current = state.end_phase(current, phase)
        return current, record
    finally:
        journal.close()


def take_apart(
    config: Experiment,
    model: models.Model,
    phase: Phase,
    dataset: data.Dataset,
    current: TrainState,
) -> tuple[loop.ApplyFn, Batch, Batch]:
    """Return what a phase computes in each epoch, and on what.

    That is the network and the images, unless a frozen first part of the network gives
    the same features each time and these fit in `config.features_megabytes`: then the
    rest of the network, and the features.
    """
    train, val = _on_device(dataset.train), _on_device(dataset.val)
    stop = features.frozen_stages(model, phase, current.params)
    if not (stop and phase.reuse_features and augment.create(config.augment) is None):
        return model.apply, train, val
    size = features.count_bytes(model, stop, len(train.labels) + len(val.labels)) / 1e6
    if size > config.features_megabytes:
        LOGGER.info(
            "The frozen layers before %s are computed anew in each epoch of phase %s: "
            "their features would take %.0f MB, and --config.features_megabytes is %g.",
            model.stages[stop][0],
            phase.name,
            size,
            config.features_megabytes,
        )
        return model.apply, train, val
    LOGGER.info(
        "The frozen layers before %s are computed once, for all epochs of phase %s.",
        model.stages[stop][0],
        phase.name,
    )
    known = features.Features(
        model,
        stop,
        current.params,
        current.batch_stats,
        devices=parallel.every(config.parallel),
        batch_size=config.eval_batch_size,
    )
    apply_fn = functools.partial(model.apply, start=stop)
    return apply_fn, known.of(train), known.of(val)


def test(
    config: Experiment,
    folder: RunFolder | None,
    model: models.Model,
    dataset: data.Dataset,
    trained: TrainState,
    record: Record,
) -> dict[str, Any]:
    """Look at the test set, once; write predictions, weights and results.json.

    Without a folder nothing is written, nor returned.

    The last epoch's weights and the best epoch's are both evaluated; which of the two
    is the run's result was said by `config.test_weights` before.
    """
    begin = time.perf_counter()
    predict = loop.make_predict(
        apply_fn=model.apply,
        batch_size=config.eval_batch_size,
        devices=parallel.every(config.parallel),
    )
    weights = {
        "last": (trained.params, trained.batch_stats),
        "best": (trained.best.params, trained.best.batch_stats),
    }
    # One evaluation is enough where these are the same.
    same = tree.digest(weights["last"]) == tree.digest(weights["best"])
    logits = {}
    for split, part in (("test", dataset.test), ("val", dataset.val)):
        images = _on_device(part).images
        last = np.asarray(predict(*weights["last"], images))
        best = last if same else np.asarray(predict(*weights["best"], images))
        logits[split] = {"last": last, "best": best}
    if folder is None:
        return {}
    with files.atomic_writer(folder.predictions) as file:
        np.savez_compressed(
            file,
            labels=dataset.test.labels,
            **logits["test"],
            val_labels=dataset.val.labels,
            **{f"val_{which}": values for which, values in logits["val"].items()},
        )
    scores = {
        split: {
            which: evaluation.evaluate(values, part.labels)
            for which, values in logits[split].items()
        }
        for split, part in (("test", dataset.test), ("val", dataset.val))
    }
    accuracy = scores["test"][config.test_weights]["accuracy"]
    metadata = {
        run_weights.NETWORK: model.name,
        "config": json.dumps(to_stored(config)),
        "classes": " ".join(map(str, range(evaluation.CLASSES))),
        "weights": config.test_weights,
        "tested_on": config.data.test_on,
        "accuracy": repr(accuracy),
    }
    reported = run_weights.named(*weights[config.test_weights])
    run_weights.write(folder.weights, reported, metadata)
    epochs = [entry for entry in record.history if entry["split"] == "train"]
    results = {
        "config": config.name,
        "model": model.name,
        "data": dataset.name,
        "tested_on": config.data.test_on,
        "seed": config.seed,
        "parameters": tree.count_parameters(trained.params, trained.batch_stats),
        "epochs": record.epoch,
        "best_epoch": int(trained.best.epoch),
        "best_monitor": config.best.monitor,
        "test_weights": config.test_weights,
        "test_accuracy": accuracy,
        "train_seconds": record.feature_seconds
        + sum(entry["seconds"] for entry in epochs),
        "wall_seconds": record.seconds + time.perf_counter() - begin,
        "images_per_second": float(
            np.median([entry["images_per_second"] for entry in epochs])
        ),
        "parameters_sha256": tree.digest(weights[config.test_weights]),
        **scores,
    }
    files.write_json(folder.results, results)
    return results


def _check_device() -> None:
    """Refuse to begin without a device.

    Raises:
        UserError: what was asked for, by flag or environment, is not there.
    """
    try:
        failures.find_devices()
    # An assertion is all that JAX has for a platform whose plugin is not installed.
    except (AssertionError, RuntimeError) as error:
        asked = getattr(jax.config, "jax_platforms")  # noqa: B009 - set at run time
        reason = str(error).split("\n")[0].rstrip(".") or "it is not installed"
        raise UserError(
            f"JAX found no device for the platform {asked!r}: {reason}. "
            "--jax_platforms=cpu (or the variable JAX_PLATFORMS) chooses the CPU."
        ) from error


def _on_device(split: data.Split) -> Batch:
    return Batch(jax.device_put(split.images), jax.device_put(split.labels))
