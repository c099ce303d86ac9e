"""TensorBoard's event files: each epoch and the result once, however often stopped."""

import json
import sys
import time
from typing import Any

import pytest
from tensorboardX.proto import plugin_hparams_pb2 as hparams

from mnist_jax import experiment, files
from mnist_jax.errors import UserError
from mnist_jax.runs import events
from mnist_jax.runs.folder import RunFolder
from tests.conftest import make_small_config, run_small
from tests.support.events import expected_points, points, read_events
from tests.support.runs import Killed, kill_at

pytestmark = pytest.mark.usefixtures("without_pictures")


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


def test_the_events_say_what_the_other_files_say(uninterrupted):
    assert points(uninterrupted) == expected_points(uninterrupted)
    times = [event.wall_time for event in read_events(uninterrupted)]
    lines = RunFolder(uninterrupted).metrics.read_text().splitlines()
    assert times == sorted(times)
    assert times[: len(lines)] == [json.loads(line)["time"] for line in lines]
    begun = RunFolder(uninterrupted).config.stat().st_mtime
    assert begun - 1 < times[0] and times[-1] < time.time() + 1


def test_the_config_and_the_names_of_its_results_are_told_to_hparams(uninterrupted):
    data = [
        hparams.HParamsPluginData.FromString(  # type: ignore[attr-defined]
            value.metadata.plugin_data.content
        )
        for event in read_events(uninterrupted)
        for value in event.summary.value
        if value.metadata.plugin_data.plugin_name == "hparams"
    ]
    about, begun, ended = data
    names = [info.name.tag for info in about.experiment.metric_infos]
    assert names == ["loss/test", "accuracy/test"]
    fields = begun.session_start_info.hparams
    assert fields["phases[1].optimizer.learning_rate"].number_value == 2e-3
    assert fields["model.name"].string_value == "lenet5"
    assert not any(name.startswith(("data.dir", "log")) for name in fields)
    assert ended.HasField("session_end_info")


@pytest.mark.parametrize(
    ("target", "name", "count"),
    [
        # With the checkpoint and metrics.jsonl of an epoch; with all but results.json.
        (events, "append", 2),
        (files, "write_json", 3),
    ],
)
def test_resumed_equals_uninterrupted(
    small_config, tmp_path, monkeypatch, uninterrupted, target, name, count
):
    with monkeypatch.context() as patch:
        kill_at(patch, target, name, count)
        with pytest.raises(Killed):
            experiment.run(experiment.parse(watched_config()), tmp_path)
    path = RunFolder(tmp_path).events
    path.write_bytes(path.read_bytes()[:-3])  # within an event
    experiment.run(experiment.parse(watched_config()), tmp_path)
    assert points(tmp_path) == points(uninterrupted)


def test_events_may_begin_within_a_run_and_are_then_of_all_epochs(
    small_config, tmp_path, monkeypatch, uninterrupted
):
    config = watched_config()
    config.log.tensorboard = False
    with monkeypatch.context() as patch:
        kill_at(patch, files, "write_json", 3)  # results.json
        with pytest.raises(Killed):
            experiment.run(experiment.parse(config), tmp_path)
    assert not RunFolder(tmp_path).events.parent.exists()
    experiment.run(experiment.parse(watched_config()), tmp_path)
    assert points(tmp_path) == points(uninterrupted)
    log = RunFolder(tmp_path).log.read_text()
    assert "log.tensorboard: false there, true now" in log


def test_validation_images_are_not_called_a_test(small_config, tmp_path):
    config = watched_config()
    config.data.test_on = "val"
    config.phases = config.phases[1:]  # shorter
    experiment.run(experiment.parse(config), tmp_path)
    assert not [tag for tag, *_ in points(tmp_path) if tag.endswith("/test")]


def test_a_missing_package_is_told_before_anything_is_written(
    small_config, tmp_path, monkeypatch
):
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    with pytest.raises(UserError, match="pip install tensorboardX"):
        experiment.run(experiment.parse(watched_config()), tmp_path / "run")
    assert not (tmp_path / "run").exists()
