"""Laws of a run whose learning rate falls and whose phases end early."""

import io

import numpy as np
import pytest
from rich.console import Console

from configs import base
from mnist_jax import experiment
from mnist_jax.runs.folder import RunFolder
from tests.conftest import make_small_config, run_small
from tests.support.runs import Killed, kill_at, metrics_without_times, outcome

pytestmark = pytest.mark.usefixtures("little_optimized", "without_pictures")


def make_watched_config():
    """Two phases with all that watches: no epoch but the first is good enough.

    In the first phase the learning rate is halved after epochs 2, 3 and 4, where it
    reaches its floor, and the phase stops after epoch 5 of 9. The second starts
    with the first epoch's weights, which are the best by training loss (it cannot
    improve by 100), and runs to its end.
    """
    small_config = make_small_config()
    first, second = base.get_phase(), base.get_phase()
    first.update(name="first", epochs=9, batch_size=16, ema_decay=0.9)
    first.label_smoothing = 0.1
    first.optimizer.update(name="rmsprop", learning_rate=8e-3)
    first.plateau.update(
        monitor="val_loss", patience=1, min_delta=100.0, min_learning_rate=1.5e-3
    )
    first.early_stopping.update(
        monitor="train_loss", patience=4, min_delta=100.0, restore_best=True
    )
    second.update(name="second", epochs=3, batch_size=21)
    second.optimizer.update(name="adamw", learning_rate=1e-3, weight_decay=0.1)
    second.schedule.update(name="cosine", warmup_epochs=1)
    small_config.phases = (first, second)
    small_config.augment.update(rotation=10.0, shift=0.1, erasing=0.2)
    return small_config


@pytest.fixture
def watched_config(small_config):
    """The same, with the images of `small`."""
    return make_watched_config()


@pytest.fixture(scope="module")
def whole(small, tmp_path_factory):
    """The folder of such a run, uninterrupted, and its output on a terminal."""
    screen = io.StringIO()
    folder = tmp_path_factory.mktemp("whole")
    terminal = {"file": screen, "force_terminal": True, "width": 120}
    run_small(make_watched_config(), small, folder, **terminal)
    return folder, screen.getvalue()


def learning_rates(folder):
    records = metrics_without_times(folder)
    return [r["learning_rate"] for r in records if r["split"] == "train"]


def test_the_rate_falls_the_phase_stops_and_the_next_begins_afresh(whole):
    folder, screen = whole
    results = RunFolder(folder).read_results()
    assert results is not None and results["epochs"] == 5 + 3
    assert "epoch 8/8" in screen  # the bar ends full though a phase ended early
    phases = [r["phase"] for r in metrics_without_times(folder)[::2]]
    assert phases == ["first"] * 5 + ["second"] * 3
    rates = learning_rates(folder)
    # Of the steps of that epoch: the reduction at an epoch's end is the next one's.
    expected = [8e-3, 8e-3, 4e-3, 2e-3, 1.5e-3]
    np.testing.assert_allclose(rates[:5], expected, rtol=1e-6)
    # Three steps an epoch, one epoch to warm up, six steps of half a cosine.
    cosine = [1e-3 * (1 + np.cos(np.pi * step / 6)) / 2 for step in (2, 5)]
    np.testing.assert_allclose(rates[5:], [0.75e-3, *cosine], rtol=1e-5)
    log = (folder / "log.txt").read_text()
    assert "train_loss has not improved for 4 epochs: stopped." in log
    assert "The weights of epoch 1 are restored." in log


def test_resumed_equals_uninterrupted(watched_config, tmp_path, monkeypatch, whole):
    """Across every reduction, the stop, the restored weights and the new phase.

    Killed at the first reduction, and at the stop.
    """
    config = experiment.parse(watched_config)
    for epoch, epochs_more in ((2, 3), (5, 4)):
        with monkeypatch.context() as patch:
            kill_at(patch, RunFolder, "append_metrics", epochs_more)
            with pytest.raises(Killed):
                experiment.run(config, tmp_path)
        saved = (tmp_path / "checkpoints").iterdir()
        assert max(int(path.name) for path in saved) == epoch
    screen = io.StringIO()
    terminal = Console(file=screen, force_terminal=True, width=120)
    experiment.run(config, tmp_path, terminal=terminal)
    assert outcome(tmp_path) == outcome(whole[0])
    assert "epoch 8/8" in screen.getvalue()


def test_restored_weights_are_those_of_the_best_epoch(watched_config, tmp_path):
    """A phase of one epoch ends as one that stops and goes back to its first."""
    watched_config.phases = watched_config.phases[:1]
    stopped = experiment.run(experiment.parse(watched_config), tmp_path / "stopped")
    watched_config.phases[0].epochs = 1
    short = experiment.run(experiment.parse(watched_config), tmp_path / "short")
    assert (stopped["epochs"], short["epochs"]) == (5, 1)
    assert stopped["parameters_sha256"] == short["parameters_sha256"]
    watched_config.phases[0].epochs = 9
    watched_config.phases[0].early_stopping.restore_best = False
    kept = experiment.run(experiment.parse(watched_config), tmp_path / "kept")
    assert kept["epochs"] == 5
    assert kept["parameters_sha256"] != short["parameters_sha256"]
