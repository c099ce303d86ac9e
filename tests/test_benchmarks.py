"""The benchmarks run; what they measure is not looked at. Without the peers."""

import json

import pytest

from benchmarks.targets import first_epoch, seconds_an_epoch
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
@pytest.mark.exhaustive
def test_throughput_knows_the_head_phase_whose_features_are_computed_once(
    command_env, tmp_path
):
    path = tmp_path / "found.json"
    run(
        command_env,
        "benchmarks.throughput",
        "--networks=vgg16_head",
        "--frameworks=mnist_jax",
        "--augmented=False",
        "--rounds=2",
        "--steps=2",
        f"--output={path}",
    )
    (result,) = json.loads(path.read_text())["results"]
    assert result["network"] == "vgg16_head" and not result["augmented"]
    assert len(result["images_per_second"]["mnist_jax"]) == 2


@pytest.mark.slow
def test_scaling_counts_the_bytes_of_all_gradients(command_env):
    """And of the loss and the accuracy, four each; XLA may add some up twice."""
    flags = "--xla_force_host_platform_device_count=8"
    env = command_env | {"XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"}
    counted = int(run(env, "benchmarks.scaling", "--bytes_of=lenet5"))
    assert 4 * 61_706 <= counted < 1.1 * 4 * 61_706


def test_a_target_counts_as_reached_in_the_first_epoch_that_is_written(tmp_path):
    metrics = tmp_path / "metrics.jsonl"
    assert first_epoch(tmp_path, 0.9) is None
    entries = [
        {"epoch": epoch, "split": split, "accuracy": accuracy}
        for epoch, split, accuracy in (
            (1, "train", 0.95),
            (1, "val", 0.8),
            (2, "val", 0.9),
            (3, "val", 0.99),
        )
    ]
    whole = "".join(json.dumps(entry) + "\n" for entry in entries)
    metrics.write_text(whole)
    assert first_epoch(tmp_path, 0.9) == 2
    metrics.write_text(whole[:-10])  # the last line is being written
    assert first_epoch(tmp_path, 0.95) is None


@pytest.mark.parametrize(
    ("network", "seconds"), [("lenet5", 54.0), ("double_cnn", 108.0)]
)
def test_peers_are_timed_with_the_report_s_recipe(network, seconds):
    """Which augments the images of the CNNs, and not those of LeNet-5."""
    results = [
        {
            "network": name,
            "augmented": augmented,
            "images_per_second": {"torch": [rate, rate / 2, 2 * rate]},
        }
        for name in ("lenet5", "double_cnn")
        for augmented, rate in ((False, 1_000.0), (True, 500.0))
    ]
    assert seconds_an_epoch(network, results) == {"torch": seconds}


@pytest.mark.slow
def test_a_run_is_stopped_when_it_reaches_its_target(command_env):
    output = run(
        command_env,
        "benchmarks.time_to_accuracy",
        "--config=configs/quickstart.py",
        "--target=0.3",
        "--seeds=1",
    )
    assert "seed 0: epoch 1, " in output and "1 of 1 runs reached 0.3" in output
