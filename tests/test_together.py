"""Laws of seeds that train together: the results equal those of single runs."""

import dataclasses
import json

import jax
import numpy as np
import pytest

from configs import base
from mnist_jax import experiment, models
from mnist_jax.devices import parallel, processes
from mnist_jax.errors import UserError
from mnist_jax.runs.folder import RunFolder
from mnist_jax.runs.load import load
from mnist_jax.runs.run import Run
from mnist_jax.training.trainer import NonFiniteLossError, Trainer
from tests.conftest import make_small_config, run_without_pictures
from tests.support.events import expected_points, points
from tests.support.runs import Killed, kill_at, metrics_without_times, outcome
from tests.support.training_parts import Tiny, largest_difference

pytestmark = pytest.mark.usefixtures("little_optimized", "without_pictures")

SEEDS = (0, 1, 5)


@pytest.fixture
def watched_config(small_config, monkeypatch):
    """Two phases with all that watches; the first stops early, not always so soon."""
    monkeypatch.setitem(models.MODELS, "tiny", Tiny)
    small_config.model.name = "tiny"
    small_config.update(convolutions="xla", steps_per_call=1)
    small_config.best.monitor = "val_accuracy"
    first, second = base.get_phase(), base.get_phase()
    first.update(name="first", epochs=5, batch_size=16, ema_decay=0.5)
    first.optimizer.update(name="rmsprop", learning_rate=0.1)
    first.plateau.update(monitor="train_loss", patience=1)
    first.early_stopping.update(monitor="val_accuracy", patience=1, restore_best=True)
    second.update(name="second", epochs=1, batch_size=21, start_from="best")
    small_config.phases = (first, second)
    return small_config


def run_together(config, folder, seeds=SEEDS):
    folders = {seed: folder / f"seed{seed}" for seed in seeds}
    return experiment.run_seeds(experiment.parse(config), folders)


def run_one_by_one(config, folder, seeds=SEEDS):
    parsed = experiment.parse(config)
    for seed in seeds:
        mine = dataclasses.replace(parsed, seed=seed)
        experiment.run(mine, folder / f"seed{seed}")


def assert_same_run(first, second, tolerance):
    """The same files, epochs and best; losses and weights to rounding."""
    assert {p.name for p in first.iterdir()} == {p.name for p in second.iterdir()}
    ours, theirs = metrics_without_times(first), metrics_without_times(second)
    for one, other in zip(ours, theirs, strict=True):
        assert one.pop("loss") == pytest.approx(other.pop("loss"), rel=tolerance)
        assert one.pop("accuracy") == pytest.approx(other.pop("accuracy"), abs=1e-6)
        assert one == other
    ours, theirs = outcome(first)[0], outcome(second)[0]
    for key in ("config", "seed", "epochs", "best_epoch", "parameters", "test_weights"):
        assert ours[key] == theirs[key]
    assert ours["test"]["best"]["confusion"] == theirs["test"]["best"]["confusion"]
    assert largest_difference(load(first).params, load(second).params) < (tolerance)
    for name in ("config.json", "summary.txt"):
        assert (first / name).read_bytes() == (second / name).read_bytes()


@pytest.fixture(scope="module")
def together(small, tmp_path_factory):
    """A LeNet-5 with three seeds, each of three epochs, and their events."""
    folder = tmp_path_factory.mktemp("together")
    config = make_small_config()
    config.log.tensorboard = True
    with run_without_pictures(small):
        run_together(config, folder)
    return folder


def test_the_folders_are_those_of_one_by_one(small_config, small, tmp_path, together):
    small_config.log.tensorboard = True
    run_one_by_one(small_config, tmp_path / "one")
    for seed in SEEDS:
        name = f"seed{seed}"
        assert_same_run(together / name, tmp_path / "one" / name, 2e-5)
        # Each log has the lines of its own seed, and those of all.
        log = (together / name / "log.txt").read_text()
        assert points(together / name) == expected_points(together / name)
        assert log.count("INFO epoch ") == 3 and f"seed {seed}, " in log
        assert "3 seeds train together" in log and "Seed " not in log
        # Read back to the bit.
        logits = load(together / name).logits(small.test.images)
        predictions = np.load(together / name / "predictions.npz")
        np.testing.assert_array_equal(logits, predictions["last"])
    losses = {metrics_without_times(together / f"seed{s}")[0]["loss"] for s in SEEDS}
    assert len(losses) == 3


def test_monitors_phases_and_draws_are_each_seed_s_own_and_resume(
    watched_config, tmp_path, monkeypatch
):
    """BatchNorm, dropout, plateau, early stopping, moving average; a kill."""
    seeds = SEEDS[:2]
    run_together(watched_config, tmp_path / "whole", seeds)
    run_one_by_one(watched_config, tmp_path / "one", seeds)
    epochs = {}
    for seed in seeds:
        name = f"seed{seed}"
        assert_same_run(tmp_path / "whole" / name, tmp_path / "one" / name, 1e-3)
        epochs[seed] = outcome(tmp_path / "whole" / name)[0]["epochs"]
        for way in ("whole", "one"):
            log = (tmp_path / way / name / "log.txt").read_text()
            assert log.count("has not improved") == (epochs[seed] < 6)
    assert len(set(epochs.values())) > 1, "all stopped at once: nothing is tested"
    # Between two of their last epochs; a test below stops seeds after their first ones.
    folder = tmp_path / "killed"
    with monkeypatch.context() as patch:
        kill_at(patch, RunFolder, "append_metrics", sum(epochs.values()) - 1)
        with pytest.raises(Killed):
            run_together(watched_config, folder, seeds)
    run_together(watched_config, folder, seeds)
    for seed in seeds:
        name = f"seed{seed}"
        assert outcome(folder / name) == outcome(tmp_path / "whole" / name)


def test_seeds_that_were_begun_one_by_one_go_on_together(
    small_config, tmp_path, monkeypatch, together
):
    """One finished, one after its first epoch, one not begun."""
    small_config.log.tensorboard = True
    run_one_by_one(small_config, tmp_path / "mixed", SEEDS[:1])
    with monkeypatch.context() as patch:
        kill_at(patch, RunFolder, "append_metrics", 2)
        with pytest.raises(Killed):
            run_one_by_one(small_config, tmp_path / "mixed", SEEDS[1:2])
    run_together(small_config, tmp_path / "mixed")
    for seed in SEEDS:
        name = f"seed{seed}"
        assert_same_run(tmp_path / "mixed" / name, together / name, 2e-5)


def test_a_loss_that_is_not_finite_ends_its_seed_alone(
    small_config, tmp_path, monkeypatch, together
):
    """Weights that are poisoned before the second epoch."""
    epoch = Trainer.epoch

    def poisoned(self, current, numbers):
        if numbers[1] == 2:
            current = jax.tree.map(np.array, jax.device_get(current))
            for leaf in jax.tree.leaves(current.params):
                leaf[1] = np.nan
        return epoch(self, current, numbers)

    monkeypatch.setattr(Trainer, "epoch", poisoned)
    outcomes = run_together(small_config, tmp_path / "poisoned")
    error = outcomes[SEEDS[1]]
    assert isinstance(error, NonFiniteLossError)
    assert "training loss became nan in epoch 2, step 1 of 4" in str(error)
    for seed in (SEEDS[0], SEEDS[2]):
        name = f"seed{seed}"
        assert outcome(tmp_path / "poisoned" / name) == outcome(together / name)
        assert "nan" not in (tmp_path / "poisoned" / name / "log.txt").read_text()
    folder = RunFolder(tmp_path / "poisoned" / f"seed{SEEDS[1]}")
    assert "loss became nan" in folder.log.read_text()
    assert not folder.results.exists()
    assert [r["epoch"] for r in metrics_without_times(folder.path)] == [1, 1]


def test_where_all_seeds_fail_all_are_told(small_config, tmp_path):
    small_config.phases[0].optimizer.learning_rate = 1e38
    outcomes = run_together(small_config, tmp_path)
    assert all(isinstance(e, NonFiniteLossError) for e in outcomes.values())
    assert list(outcomes) == list(SEEDS)


def test_several_processes_are_refused(small_config, tmp_path, monkeypatch):
    monkeypatch.setattr(processes, "count", lambda: 2)
    with pytest.raises(UserError, match="one seed at a time"):
        run_together(small_config, tmp_path)


def test_seeds_begun_with_other_convolutions_are_refused(
    small_config, tmp_path, monkeypatch
):
    with monkeypatch.context() as patch:
        kill_at(patch, RunFolder, "append_metrics", 1)
        with pytest.raises(Killed):
            run_one_by_one(small_config, tmp_path, SEEDS[:1])
        with pytest.raises(Killed):
            kill_at(patch, Run, "save", 1)
            run_one_by_one(small_config, tmp_path, SEEDS[1:2])
    path = tmp_path / f"seed{SEEDS[1]}" / "environment.json"
    path.write_text(
        json.dumps(json.loads(path.read_text()) | {"convolutions": "oneDNN 0"})
    )
    with pytest.raises(UserError, match="different convolutions: .*--notogether"):
        run_together(small_config, tmp_path)


@pytest.mark.parametrize(
    ("seeds", "devices", "used", "slots"),
    [(8, 8, 8, 8), (2, 8, 2, 2), (10, 8, 5, 10), (11, 8, 6, 12), (5, 1, 1, 5)],
)
def test_seeds_are_shared_among_as_many_devices_as_help(
    monkeypatch, seeds, devices, used, slots
):
    monkeypatch.setattr(jax, "local_devices", lambda: list(range(devices)))
    monkeypatch.setattr(jax, "local_device_count", lambda: devices)
    monkeypatch.setattr(jax, "__version_info__", (0, 8, 0))
    shared = parallel.choose("jit", 86, seeds=seeds)
    assert (len(shared.devices), shared.replicas) == (used, slots)


def test_an_old_jax_cannot_divide_seeds_among_devices(monkeypatch):
    monkeypatch.setattr(jax, "__version_info__", (0, 7, 2))
    monkeypatch.setattr(jax, "local_device_count", lambda: 2)
    with pytest.raises(UserError, match="--notogether"):
        parallel.choose("jit", 86, seeds=2)
    monkeypatch.setattr(jax, "local_device_count", lambda: 1)
    assert parallel.choose("jit", 86, seeds=2).replicas == 2
