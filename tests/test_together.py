"""Laws of seeds that train together: what comes out is what comes out one by one."""

import dataclasses
import json

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.typing import DTypeLike

from configs import base
from mnist_jax import experiment, load_run, models
from mnist_jax.devices import parallel
from mnist_jax.errors import UserError
from mnist_jax.models import layers
from mnist_jax.runs.folder import RunFolder
from mnist_jax.runs.journal import Journal
from mnist_jax.training import loop, monitors, state
from mnist_jax.training.loop import NonFiniteLossError
from tests.support.runs import Killed, kill_at, metrics_without_times, outcome
from tests.support.training_parts import largest_difference

pytestmark = pytest.mark.usefixtures("without_pictures")

SEEDS = (0, 1, 5)


class Tiny(nn.Module):
    """A network with BatchNorm and dropout that compiles fast."""

    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, images, *, train):
        x = layers.average_pool(images, 2)
        x = nn.relu(layers.Conv(4, (3, 3), padding="SAME", name="conv")(x))
        x = layers.BatchNorm(name="norm")(x, use_running_average=not train)
        x = layers.max_pool(x, 2)
        x = layers.Dropout(0.25)(x, train=train)
        return layers.Dense(10, name="logits")(x.reshape(x.shape[0], -1))


@pytest.fixture
def watched_config(small_config, monkeypatch):
    """Two phases with all that watches; the first stops early, not always so soon."""
    monkeypatch.setitem(models.MODELS, "tiny", Tiny)
    small_config.model.name = "tiny"
    small_config.convolutions = "xla"
    small_config.best.monitor = "val_accuracy"
    first, second = base.get_phase(), base.get_phase()
    first.update(name="first", epochs=5, batch_size=16, ema_decay=0.5)
    first.optimizer.update(name="rmsprop", learning_rate=0.1)
    first.plateau.update(monitor="train_loss", patience=1)
    first.early_stopping.update(monitor="val_loss", patience=1, restore_best=True)
    second.update(name="second", epochs=2, batch_size=21, start_from="best")
    small_config.phases = (first, second)
    small_config.augment.update(rotation=10.0, shift=0.1)
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
    """All files; the same epochs, accuracies and best; losses and weights to rounding."""
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
    assert largest_difference(load_run(first).params, load_run(second).params) < (
        tolerance
    )
    for name in ("config.json", "summary.txt"):
        assert (first / name).read_bytes() == (second / name).read_bytes()


@pytest.fixture
def together(small_config, tmp_path):
    """A LeNet-5 with three seeds, each of three epochs."""
    run_together(small_config, tmp_path / "together")
    return tmp_path / "together"


def test_the_folders_are_those_of_one_by_one(small_config, tmp_path, together):
    run_one_by_one(small_config, tmp_path / "one")
    for seed in SEEDS:
        name = f"seed{seed}"
        assert_same_run(together / name, tmp_path / "one" / name, 2e-5)
        # Each log has the lines of its own seed, and those of all.
        log = (together / name / "log.txt").read_text()
        assert log.count("INFO epoch ") == 3 and f"seed {seed}, " in log
        assert "3 seeds train together" in log and "Seed " not in log
    losses = {metrics_without_times(together / f"seed{s}")[0]["loss"] for s in SEEDS}
    assert len(losses) == 3


def test_a_run_together_is_read_back_to_the_bit(small, together):
    for seed in SEEDS:
        folder = together / f"seed{seed}"
        logits = load_run(folder).logits(small.test.images)
        predictions = np.load(folder / "predictions.npz")
        np.testing.assert_array_equal(logits, predictions["last"])


def test_monitors_phases_and_random_draws_are_each_seed_s_own(watched_config, tmp_path):
    """BatchNorm, dropout, augmentation, plateau, early stopping, moving average."""
    run_together(watched_config, tmp_path / "together")
    run_one_by_one(watched_config, tmp_path / "one")
    lengths = set()
    for seed in SEEDS:
        name = f"seed{seed}"
        assert_same_run(tmp_path / "together" / name, tmp_path / "one" / name, 1e-3)
        lengths.add(outcome(tmp_path / "together" / name)[0]["epochs"])
        one, other = (
            (tmp_path / way / name / "log.txt").read_text().count("has not improved")
            for way in ("together", "one")
        )
        assert one == other
    assert len(lengths) > 1, "all seeds stopped at the same epoch: nothing is tested"


@pytest.mark.parametrize("count", [1, 2, 4, 8, 15])
def test_resumed_equals_uninterrupted(watched_config, tmp_path, monkeypatch, count):
    """Killed before and between the epochs of seeds, and in both phases."""
    run_together(watched_config, tmp_path / "whole")
    with monkeypatch.context() as patch:
        kill_at(patch, RunFolder, "append_metrics", count)
        with pytest.raises(Killed):
            run_together(watched_config, tmp_path / "killed")
    run_together(watched_config, tmp_path / "killed")
    for seed in SEEDS:
        name = f"seed{seed}"
        assert outcome(tmp_path / "killed" / name) == outcome(
            tmp_path / "whole" / name
        ), name


def test_seeds_that_were_begun_one_by_one_go_on_together(
    small_config, tmp_path, monkeypatch
):
    """One finished, one after its first epoch, one not begun."""
    run_one_by_one(small_config, tmp_path / "one")
    run_one_by_one(small_config, tmp_path / "mixed", SEEDS[:1])
    with monkeypatch.context() as patch:
        kill_at(patch, RunFolder, "append_metrics", 2)
        with pytest.raises(Killed):
            run_one_by_one(small_config, tmp_path / "mixed", SEEDS[1:2])
    run_together(small_config, tmp_path / "mixed")
    for seed in SEEDS:
        name = f"seed{seed}"
        assert_same_run(tmp_path / "mixed" / name, tmp_path / "one" / name, 2e-5)


@pytest.mark.parametrize("epoch", [1, 2])
def test_a_loss_that_is_not_finite_ends_its_seed_alone(
    small_config, tmp_path, monkeypatch, together, epoch
):
    """Poisoned weights, before the first epoch or before the second."""
    run_epochs = loop.Trainer.run_epochs

    def poisoned(self, current, epochs):
        if epochs[1] == epoch:
            current = jax.tree.map(np.array, jax.device_get(current))
            for leaf in jax.tree.leaves(current.params):
                leaf[1] = np.nan
        return run_epochs(self, current, epochs)

    monkeypatch.setattr(loop.Trainer, "run_epochs", poisoned)
    outcomes = run_together(small_config, tmp_path / "poisoned")
    error = outcomes[SEEDS[1]]
    assert isinstance(error, NonFiniteLossError)
    assert f"loss became nan in epoch {epoch}, step 1 of 4" in str(error)
    for seed in (SEEDS[0], SEEDS[2]):
        name = f"seed{seed}"
        assert outcome(tmp_path / "poisoned" / name) == outcome(together / name)
        assert "nan" not in (tmp_path / "poisoned" / name / "log.txt").read_text()
    folder = RunFolder(tmp_path / "poisoned" / f"seed{SEEDS[1]}")
    assert "loss became nan" in folder.log.read_text()
    assert not folder.results.exists()
    assert len(metrics_without_times(folder.path) if epoch > 1 else []) == (
        2 * (epoch - 1)
    )
    # Without the poison the seed goes on from its last good epoch, and alone.
    monkeypatch.undo()


def test_where_all_seeds_fail_all_are_told(small_config, tmp_path):
    small_config.phases[0].optimizer.learning_rate = 1e38
    outcomes = run_together(small_config, tmp_path)
    assert all(isinstance(e, NonFiniteLossError) for e in outcomes.values())
    assert list(outcomes) == list(SEEDS)


def test_seeds_begun_with_other_convolutions_are_refused(
    small_config, tmp_path, monkeypatch
):
    with monkeypatch.context() as patch:
        kill_at(patch, RunFolder, "append_metrics", 1)
        with pytest.raises(Killed):
            run_one_by_one(small_config, tmp_path, SEEDS[:1])
        with pytest.raises(Killed):
            kill_at(patch, Journal, "write", 1)
            run_one_by_one(small_config, tmp_path, SEEDS[1:2])
    path = tmp_path / f"seed{SEEDS[1]}" / "environment.json"
    path.write_text(
        json.dumps(json.loads(path.read_text()) | {"convolutions": "oneDNN 0"})
    )
    with pytest.raises(UserError, match="different convolutions: .*--notogether"):
        run_together(small_config, tmp_path)


# -- the program


def compile_train_steps(monkeypatch, config, folder, seeds):
    """The train programs that a run compiles: their StableHLO, and XLA's FLOPs."""
    programs = []
    for kind in (parallel.Devices, parallel.ReplicaDevices):
        compile_ = kind.compile

        def record(self, function, arguments, *, compile_=compile_, **options):
            if options.get("donate"):
                lowered = jax.jit(function).lower(*arguments)
                programs.append(lowered.as_text())
                programs.append(lowered.compile().cost_analysis()["flops"])
            return compile_(self, function, arguments, **options)

        monkeypatch.setattr(kind, "compile", record)
    kill_at(monkeypatch, Journal, "write", 1)
    with pytest.raises(Killed):
        run_together(config, folder, seeds)
    monkeypatch.undo()
    return programs
