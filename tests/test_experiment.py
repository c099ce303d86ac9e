"""Laws of a whole run, in this process on 64 images."""

import dataclasses
import json
import shutil
from typing import Any

import jax
import numpy as np
import pytest

from configs import base
from mnist_jax import console, data, experiment
from mnist_jax.errors import UserError
from mnist_jax.models import operations
from mnist_jax.runs import checkpoint
from mnist_jax.runs import results as run_results
from mnist_jax.runs.folder import RunFolder
from mnist_jax.training.trainer import NonFiniteLossError
from tests.conftest import make_small_config, runs_on
from tests.support.runs import Killed, kill_at, metrics_without_times, outcome

pytestmark = pytest.mark.usefixtures("little_optimized")

FILES = {
    ".lock",
    "config.json",
    "environment.json",
    "log.txt",
    "weights.safetensors",
    "report.html",
    "summary.txt",
    "metrics.jsonl",
    "predictions.npz",
    "results.json",
    "report.md",
    "checkpoints",
    "figures",
}


@pytest.fixture(scope="module")
def finished(small, tmp_path_factory):
    """The folder of a run with its pictures, and what the run returned."""
    folder = tmp_path_factory.mktemp("finished")
    with runs_on(small):
        return folder, experiment.run(experiment.parse(make_small_config()), folder)


@pytest.fixture(scope="module")
def uninterrupted(finished):
    return outcome(finished[0])


def test_a_run_leaves_a_complete_folder(finished):
    folder, results = finished
    assert {path.name for path in folder.iterdir()} == FILES
    assert results == json.loads((folder / "results.json").read_text())
    assert results["parameters"] == 61_706
    assert results["epochs"] == 3
    assert 1 <= results["best_epoch"] <= 3
    splits = [(r["epoch"], r["split"]) for r in metrics_without_times(folder)]
    assert splits == [(e, s) for e in (1, 2, 3) for s in ("train", "val")]
    predictions = np.load(folder / "predictions.npz")
    assert predictions["labels"].shape == (50,)
    for which in ("last", "best"):
        correct = predictions[which].argmax(axis=1) == predictions["labels"]
        assert results["test"][which]["accuracy"] == correct.mean()
        assert results["test"][which]["examples"] == 50
    assert results["test_accuracy"] == results["test"]["last"]["accuracy"]
    environment = json.loads((folder / "environment.json").read_text())
    assert environment["versions"].keys() >= {"python", "jax", "flax", "optax"}


def test_nothing_is_called_a_test_that_was_none(finished, small_config, tmp_path):
    small_config.data.test_on = "val"
    on_val = experiment.run(experiment.parse(small_config), tmp_path)
    for (folder, results), tested_on, said, unsaid in (
        (finished, "test", "Test accuracy", "Validation accuracy"),
        ((tmp_path, on_val), "val", "Validation accuracy", "Test accuracy"),
    ):
        assert results["tested_on"] == tested_on
        for name in ("log.txt", "report.md"):
            text = (folder / name).read_text()
            assert said in text and unsaid not in text
        log = (folder / "log.txt").read_text()
        assert ("50 to test" in log) == (tested_on == "test")


def test_a_finished_run_does_nothing(finished, small_config, monkeypatch):
    folder, first = finished
    before = {p: p.stat().st_mtime_ns for p in folder.rglob("*") if p.is_file()}
    monkeypatch.setattr(data, "load", lambda config: pytest.fail("data were loaded"))
    assert experiment.run(experiment.parse(small_config), folder) == first
    after = {p: p.stat().st_mtime_ns for p in folder.rglob("*") if p.is_file()}
    assert after == before


def test_a_kill_before_the_report_costs_the_report_alone(
    finished, small_config, tmp_path, monkeypatch
):
    folder = shutil.copytree(finished[0], tmp_path / "copy")
    (folder / "report.md").unlink()
    monkeypatch.setattr(experiment, "_train", lambda *a, **k: pytest.fail("trained"))
    assert experiment.run(experiment.parse(small_config), folder) == finished[1]
    assert (folder / "report.md").exists()


@pytest.mark.usefixtures("without_pictures")
@pytest.mark.parametrize(
    ("target", "name", "counts"),
    [
        # Before the first checkpoint, and at the end of an epoch.
        (console.TrainingProgress, "steps_done", (1, 6)),
        # Between the lines of metrics.jsonl and the checkpoint. Tests below kill runs
        # before these lines.
        (checkpoint.Checkpoints, "save", (2,)),
        # After training.
        (run_results, "test", (1,)),
        pytest.param(
            *(console.TrainingProgress, "steps_done", (2, 3, 4, 5)),
            marks=pytest.mark.exhaustive,
        ),
        pytest.param(
            *(checkpoint.Checkpoints, "save", (1, 3)), marks=pytest.mark.exhaustive
        ),
    ],
)
def test_resumed_equals_uninterrupted(
    small_config, tmp_path, monkeypatch, uninterrupted, target, name, counts
):
    for count in counts:
        folder = tmp_path / f"killed-{count}"
        with monkeypatch.context() as patch:
            kill_at(patch, target, name, count)
            with pytest.raises(Killed):
                experiment.run(experiment.parse(small_config), folder)
        assert not (folder / "results.json").exists()
        experiment.run(experiment.parse(small_config), folder)
        assert outcome(folder) == uninterrupted


@pytest.mark.usefixtures("without_pictures")
@pytest.mark.parametrize(
    "steps_per_epoch", [0, pytest.param(3, marks=pytest.mark.exhaustive), 7]
)
def test_a_run_stopped_after_each_epoch_equals_one_never_stopped(
    small_config, tmp_path, monkeypatch, uninterrupted, steps_per_epoch
):
    """Also where an epoch has fewer steps than a pass, or more."""
    if steps_per_epoch:
        small_config.phases[0].steps_per_epoch = steps_per_epoch
        experiment.run(experiment.parse(small_config), tmp_path / "whole")
        uninterrupted = outcome(tmp_path / "whole")
    folder = tmp_path / "stopped"
    for _ in range(2):
        with monkeypatch.context() as patch:
            kill_at(patch, RunFolder, "append_metrics", 2)
            with pytest.raises(Killed):
                experiment.run(experiment.parse(small_config), folder)
    experiment.run(experiment.parse(small_config), folder)
    assert outcome(folder) == uninterrupted


def two_phases(config):
    """Two phases that differ in all but epochs; the second begins at the best epoch."""
    first, second = base.get_phase(), base.get_phase()
    first.name, second.name = "first", "second"
    first.epochs, second.epochs = 2, 2
    first.batch_size, second.batch_size = 16, 21
    first.optimizer.learning_rate = 3e-2
    second.optimizer.name = "sgd"  # whose state has another shape
    second.start_from = "best"
    config.phases = (first, second)
    return config


@pytest.mark.usefixtures("without_pictures")
def test_phases_follow_each_other_and_resume(small_config, tmp_path, monkeypatch):
    config = two_phases(small_config)
    results = experiment.run(experiment.parse(config), tmp_path / "whole")
    records = metrics_without_times(tmp_path / "whole")
    assert [(r["epoch"], r["phase"]) for r in records if r["split"] == "val"] == [
        (1, "first"),
        (2, "first"),
        (3, "second"),
        (4, "second"),
    ]
    assert results["epochs"] == 4
    folder = tmp_path / "killed"
    for count in (3, 2):  # at the end of the first phase, and inside the second
        with monkeypatch.context() as patch:
            kill_at(patch, RunFolder, "append_metrics", count)
            with pytest.raises(Killed):
                experiment.run(experiment.parse(config), folder)
    experiment.run(experiment.parse(config), folder)
    log = (folder / "log.txt").read_text()
    assert "Resuming after epoch 2." in log and "Resuming after epoch 3." in log
    assert outcome(folder) == outcome(tmp_path / "whole")


@pytest.mark.usefixtures("without_pictures")
def test_the_test_set_has_no_say_in_training(
    small_config, small, tmp_path, monkeypatch, uninterrupted
):
    """Other test images and labels: the same weights, to the bit, and best epoch."""
    other = data.Dataset(
        name="digits",
        train=small.train,
        val=small.val,
        test=data.Split(small.test.images[::-1, ::-1], 9 - small.test.labels),
    )
    monkeypatch.setattr(data, "load", lambda config: other)
    results = experiment.run(experiment.parse(small_config), tmp_path / "other")
    reference = uninterrupted[0]
    assert results["parameters_sha256"] == reference["parameters_sha256"]
    assert results["best_epoch"] == reference["best_epoch"]
    assert results["val"] == reference["val"]
    assert results["test"] != reference["test"]


@pytest.mark.usefixtures("without_pictures")
def test_the_result_is_of_the_weights_that_the_config_names(small_config, tmp_path):
    first, second = base.get_phase(), base.get_phase()
    first.epochs, first.batch_size = 1, 15
    second.epochs, second.batch_size = 1, 15
    second.optimizer.learning_rate = 0.5  # it gets worse
    small_config.phases = (first, second)
    by_last = experiment.run(experiment.parse(small_config), tmp_path / "last")
    assert (by_last["best_epoch"], by_last["epochs"]) == (1, 2)
    small_config.test_weights = "best"
    by_best = experiment.run(experiment.parse(small_config), tmp_path / "best")
    assert by_best["test"] == by_last["test"]
    for results, which in ((by_last, "last"), (by_best, "best")):
        assert results["test_accuracy"] == results["test"][which]["accuracy"]
    assert by_last["test"]["last"] != by_last["test"]["best"]
    assert by_last["parameters_sha256"] != by_best["parameters_sha256"]


@pytest.mark.usefixtures("without_pictures", "optimized")
def test_xla_s_convolutions_change_no_result(small_config, tmp_path, uninterrupted):
    """To rounding: XLA may sum in another order in another program.

    It has optimized these, and not the uninterrupted run.
    """
    small_config.convolutions = "xla"
    experiment.run(experiment.parse(small_config), tmp_path / "other")
    for ours, theirs in zip(
        metrics_without_times(tmp_path / "other"), uninterrupted[2], strict=True
    ):
        assert ours["loss"] == pytest.approx(theirs["loss"], rel=1e-4)
        assert ours["accuracy"] == theirs["accuracy"]


@pytest.mark.usefixtures("without_pictures", "optimized")
def test_what_is_only_for_speed_may_change_within_a_run(
    small_config, broken_off, uninterrupted
):
    small_config.update(eval_batch_size=7, steps_per_call=3, parallel="pmap")
    experiment.run(experiment.parse(small_config), broken_off)
    for ours, theirs in zip(
        metrics_without_times(broken_off), uninterrupted[2], strict=True
    ):
        assert ours["loss"] == pytest.approx(theirs["loss"], rel=1e-4)


@pytest.mark.usefixtures("without_pictures")
def test_a_loss_that_is_not_finite_stops_the_run_and_says_where(
    small_config, tmp_path, monkeypatch
):
    small_config.phases[0].optimizer.learning_rate = 1e38
    message = "loss became (nan|inf) in epoch 1, step [234] of 4"
    with pytest.raises(NonFiniteLossError, match=message) as caught:
        experiment.run(experiment.parse(small_config), tmp_path)
    assert isinstance(caught.value, UserError)  # which a command says in one line
    assert not (tmp_path / "results.json").exists()
    assert not list((tmp_path / "checkpoints").iterdir())
    assert "NonFiniteLossError" in (tmp_path / "log.txt").read_text()


@pytest.mark.usefixtures("without_pictures")
def test_a_validation_loss_that_is_not_finite_costs_its_epoch_alone(
    small_config, tmp_path
):
    """The second phase has one step: its loss is of the weights before it."""
    good, bad = base.get_phase(), base.get_phase()
    good.update(name="good", epochs=1, batch_size=16)
    bad.update(name="bad", epochs=1, batch_size=64)
    bad.optimizer.learning_rate = 1e38
    small_config.phases = (good, bad)
    for _ in range(2):  # the same when the run is resumed
        with pytest.raises(NonFiniteLossError, match="validation loss .* in epoch 2"):
            experiment.run(experiment.parse(small_config), tmp_path)
        assert [path.stem for path in (tmp_path / "checkpoints").iterdir()] == ["1"]
        assert [r["epoch"] for r in metrics_without_times(tmp_path)] == [1, 1]
        assert not (tmp_path / "results.json").exists()


@pytest.mark.usefixtures("without_pictures")
def test_lost_checkpoints_are_no_reason_to_start_again(
    small_config, tmp_path, monkeypatch
):
    with monkeypatch.context() as patch:
        kill_at(patch, RunFolder, "append_metrics", 3)
        with pytest.raises(Killed):
            experiment.run(experiment.parse(small_config), tmp_path)
    (tmp_path / "checkpoints").rename(tmp_path / "elsewhere")
    with pytest.raises(UserError, match="finished epochs, but .* no checkpoint"):
        experiment.run(experiment.parse(small_config), tmp_path)


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("model", "name"), "lenet", "known: .*lenet5"),
        (("seed",), 2**32, "seed=4294967296: must be at least 0"),
        (("phases",), (), "nothing to train"),
        (("phases", 0, "batch_size"), 65, "only 64 images to train on"),
        (("phases", 0, "optimizer", "name"), "sdg", r"phases\[0\].*known: adam"),
    ],
)
def test_a_bad_config_is_refused_before_anything_is_written(
    small_config, tmp_path, path, value, message
):
    part = small_config
    for name in path[:-1]:
        part = part[name]
    part[path[-1]] = value
    with pytest.raises(UserError, match=message):
        experiment.run(experiment.parse(small_config), tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.fixture
def broken_off(small_config, tmp_path, monkeypatch):
    """The folder of a run that was killed in its second epoch."""
    with monkeypatch.context() as patch:
        kill_at(patch, RunFolder, "append_metrics", 2)
        with pytest.raises(Killed):
            experiment.run(experiment.parse(small_config), tmp_path)
    return tmp_path


@pytest.mark.usefixtures("without_pictures")
def test_convolutions_are_not_changed_within_a_run_unless_one_says_so(
    small_config, broken_off, monkeypatch
):
    path = RunFolder(broken_off).environment
    fields = json.loads(path.read_text()) | {"convolutions": "oneDNN 1.2.3"}
    path.write_text(json.dumps(fields))
    monkeypatch.setattr(operations, "onednn_jax", None)
    with pytest.raises(UserError, match=r"began with .*oneDNN 1\.2\.3.*not installed"):
        experiment.run(experiment.parse(small_config), broken_off)
    small_config.convolutions = "xla"
    experiment.run(experiment.parse(small_config), broken_off)
    assert (
        "started with different convolutions" in RunFolder(broken_off).log.read_text()
    )


@pytest.mark.parametrize("devices, seeds", [(2, (0,)), (1, (0, 1))])
def test_a_large_set_is_refused_before_anything_is_written(
    small_config, tmp_path, monkeypatch, devices, seeds
):
    """On several devices, or with several seeds at once."""
    monkeypatch.setattr(jax, "device_count", lambda: devices)
    small = data.load(experiment.parse(small_config).data)
    rows: Any = data.Rows(small.train.images, np.arange(len(small.train)))
    large = data.Split(rows, small.train.labels)
    monkeypatch.setattr(data, "load", lambda _: dataclasses.replace(small, train=large))
    workdirs = {seed: tmp_path / f"seed{seed}" for seed in seeds}
    with pytest.raises(UserError, match="raise --config.data.images_megabytes"):
        experiment.run_seeds(experiment.parse(small_config), workdirs)
    assert not list(tmp_path.iterdir())


@pytest.mark.usefixtures("without_pictures")
def test_a_torn_line_of_metrics_is_repaired_and_a_changed_one_refused(
    small_config, broken_off, uninterrupted
):
    config, path = experiment.parse(small_config), RunFolder(broken_off).metrics
    whole = path.read_text()
    lines = whole.splitlines(keepends=True)
    for changed in (lines[1:], [lines[0].replace("0.", "1.", 1), *lines[1:]]):
        path.write_text("".join(changed))
        with pytest.raises(UserError, match="metrics.jsonl .*have changed") as error:
            experiment.run(config, broken_off)
        assert "\n" not in str(error.value)
    path.write_text(whole + '{"epoch": 2, "spl')
    experiment.run(config, broken_off)
    assert outcome(broken_off) == uninterrupted


@pytest.mark.usefixtures("without_pictures")
def test_the_caller_s_log_handlers_are_left_alone(small_config, tmp_path, caplog):
    console.LOGGER.addHandler(caplog.handler)
    before = caplog.handler.formatter, caplog.handler.level
    small_config.phases[0].epochs = 1
    for name in ("first", "second"):
        caplog.clear()
        experiment.run(experiment.parse(small_config), tmp_path / name)
        assert caplog.handler in console.LOGGER.handlers
        assert (caplog.handler.formatter, caplog.handler.level) == before
        assert sum("epoch   1" in line for line in caplog.messages) == 1
