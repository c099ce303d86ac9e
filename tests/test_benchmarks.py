"""The benchmarks run, without the peers; no time is checked."""

import json

import pytest

from tests.conftest import LITTLE_OPTIMIZED
from tests.support import commands


def run(command_env, *arguments):
    result = commands.run(*arguments, env=command_env | LITTLE_OPTIMIZED)
    assert result.returncode == 0, result.stderr
    return result.stdout


@pytest.mark.slow
def test_throughput_measures_every_round_and_writes_all_of_it(command_env, tmp_path):
    path = tmp_path / "found.json"
    output = run(
        command_env,
        "benchmarks.throughput",
        "--networks=lenet5",
        "--frameworks=mnist_jax",
        "--rounds=3",
        "--steps=2",
        f"--output={path}",
    )
    assert "lenet5" in output and "the report's" in output
    found = json.loads(path.read_text())
    assert found["environment"]["device_kind"] and found["cores"] >= 1
    assert [result["augmented"] for result in found["results"]] == [False, True]
    for result in found["results"]:
        rates = result["images_per_second"]["mnist_jax"]
        assert len(rates) == 3 and all(rate > 0 for rate in rates)
        assert {"jax", "flax"} <= result["versions"].keys()


@pytest.mark.slow
def test_the_time_to_an_accuracy_is_measured(command_env, tmp_path):
    config = tmp_path / "short.py"
    config.write_text(
        "from configs import base, quickstart\n"
        "def get_config():\n"
        "    config = quickstart.get_config()\n"
        "    config.model = base.get_model('tests.support.own_nets:MLP')\n"
        "    config.phases[0].epochs = 1\n"
        "    return config\n"
    )
    output = run(
        command_env,
        "benchmarks.time_to_accuracy",
        f"--config={config}",
        "--target=0.3",
        "--seeds=1",
    )
    assert "epoch=1," in output and "reached by 1 of 1" in output
