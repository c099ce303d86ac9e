"""TensorBoard shows each epoch and the result once, however often a run was stopped."""

import sys
from typing import Any

import pytest

from mnist_jax import experiment, files
from mnist_jax.errors import UserError
from mnist_jax.runs.events import Events
from mnist_jax.runs.folder import RunFolder
from tests.conftest import make_small_config, run_small
from tests.support.events import expected_points, points
from tests.support.runs import Killed, kill_at

pytestmark = pytest.mark.usefixtures("little_optimized", "without_pictures")


def watched_config() -> Any:
    """Two phases, which differ in their names alone: one program trains both."""
    config: Any = make_small_config()
    config.log.tensorboard = True
    first, second = (config.phases[0].copy_and_resolve_references() for _ in range(2))
    first.update(name="first", epochs=2)
    second.update(name="second", epochs=1)
    config.phases = (first, second)
    return config


@pytest.fixture(scope="module")
def uninterrupted(small, tmp_path_factory):
    return run_small(watched_config(), small, tmp_path_factory.mktemp("whole"))


def test_the_events_equal_the_other_files(uninterrupted):
    assert points(uninterrupted) == expected_points(uninterrupted)


@pytest.mark.parametrize(
    ("target", "name", "count", "before"),
    [
        # Between checkpoint and events; before results.json; events begun on resuming.
        (Events, "add", 3, True),
        (files, "write_json", 3, True),
        (files, "write_json", 3, False),
    ],
)
def test_resumed_equals_uninterrupted(
    small_config, tmp_path, monkeypatch, uninterrupted, target, name, count, before
):
    config = watched_config()
    config.log.tensorboard = before
    with monkeypatch.context() as patch:
        kill_at(patch, target, name, count)
        with pytest.raises(Killed):
            experiment.run(experiment.parse(config), tmp_path)
    assert RunFolder(tmp_path).events.exists() == before
    experiment.run(experiment.parse(watched_config()), tmp_path)
    assert points(tmp_path) == points(uninterrupted)


def test_validation_images_are_not_called_a_test(small_config, tmp_path):
    config = watched_config()
    config.data.test_on = "val"
    config.phases = config.phases[1:]  # shorter
    experiment.run(experiment.parse(config), tmp_path)
    assert not [tag for _, tag in points(tmp_path) if tag.endswith("/test")]


def test_a_missing_package_is_named_before_anything_is_written(
    small_config, tmp_path, monkeypatch
):
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    with pytest.raises(UserError, match="pip install tensorboardX"):
        experiment.run(experiment.parse(watched_config()), tmp_path / "run")
    assert not (tmp_path / "run").exists()
