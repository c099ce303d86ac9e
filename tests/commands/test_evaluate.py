"""`mnist-jax evaluate`: the figures of results.json again, and what is refused."""

import dataclasses
import os
import re
import shutil

import numpy as np
import pytest
from PIL import Image

from mnist_jax.commands import measure
from mnist_jax.config import Data
from mnist_jax.data import Split
from mnist_jax.errors import UserError
from mnist_jax.evaluation import calibration
from mnist_jax.runs.load import load
from mnist_jax.runs.trained import found_here
from tests.support.commands import run_each

pytestmark = pytest.mark.usefixtures("little_optimized")


@pytest.fixture
def run_and_images(three_steps, small, monkeypatch):
    monkeypatch.setattr(measure, "_load", lambda config: small)
    run = load(three_steps)
    return run, measure.images_for([run], None)


def test_it_finds_what_results_json_says(run_and_images, three_steps, small):
    run, images = run_and_images
    _, [found], notes = measure.assess([run], images)
    weights = run.results["test_weights"]
    assert found["evaluation"] == run.results["test"][weights]
    assert not notes and images.name == "test images of digits"
    # The temperature is the same from predictions.npz and from the images themselves.
    logits = run.logits(small.val.images)
    expected = calibration.temperature(logits, small.val.labels)
    assert found["calibration"]["temperature"] == pytest.approx(expected)
    alone = load(three_steps / "weights.safetensors")
    [again] = measure.assess([alone], images).runs
    assert again["calibration"] == found["calibration"]


def test_another_accuracy_is_an_error_and_rounding_a_note(run_and_images):
    run, images = run_and_images
    other = dataclasses.replace(run, accuracy=run.accuracy + 3 / 50)
    with pytest.raises(UserError, match="is reported, .* a difference of 3 in 50"):
        measure.assess([other], images)
    other = dataclasses.replace(run, accuracy=run.accuracy + 2 / 50)
    assert "a difference of 2 in 50" in measure.assess([other], images).notes[0]


def test_runs_of_different_data_are_not_set_side_by_side(run_and_images):
    run, _ = run_and_images
    others = load()
    with pytest.raises(UserError, match="different images: .*digits.*mnist.*--data="):
        measure.images_for([run, others], None)
    val = dataclasses.replace(run.config.data, test_on="val")
    validated = dataclasses.replace(
        run,
        config=dataclasses.replace(run.config, data=val),
        tested_on="val",
    )
    with pytest.raises(UserError, match="test images of .*validation images of"):
        measure.images_for([run, validated], None)
    results = run.results | {"test_images_sha256": "0"}
    elsewhere = dataclasses.replace(run, results=results)
    with pytest.raises(UserError, match="tested on different images"):
        measure.images_for([run, elsewhere], None)
    # Its own validation images are no place to fit a temperature on.
    assert "no temperature" in measure.assess([validated], run_and_images[1]).notes[0]


def test_published_files_may_be_elsewhere_but_not_files_of_the_user():
    for source, found in (("mnist", None), ("folder", "/nowhere"), ("npz", "/nowhere")):
        assert found_here(Data(source=source, dir="/nowhere")).dir == found


def test_damage_and_views_are_measured(run_and_images):
    run, images = run_and_images
    [found] = measure.assess([run], images, tta=True, damaged=20).runs
    assert found["augmented"]["examples"] == 50
    assert found["robustness"]["examples"] == 20


def test_which_images(run_and_images, tmp_path):
    run, own = run_and_images
    assert measure.is_own(run, own)
    digits = measure.images_for([run], "digits")
    assert len(digits.split) == 359 and digits.name == "test images of digits"
    (tmp_path / "empty").mkdir()
    for wanted, message in {
        f"{tmp_path / 'empty'}": "empty holds no pictures",
        "cifar": r"--data=cifar: .*known: mnist, .*digits\)",
        f"{tmp_path / 'a'},{tmp_path / 'b'}": "Cannot read .*/a: No such file",
        "tests.support.made_data:sixty_two": (
            r"for 10 classes \(0, 1, 2, ...\) .* but .* has 62 classes \(letter 0, 1,"
        ),
    }.items():
        with pytest.raises(UserError, match=message) as error:
            measure.images_for([run], wanted)
        assert "\n" not in str(error.value)
    colour = Split(np.zeros((5, 28, 28, 3), np.uint8), np.zeros(5, np.uint8))
    with pytest.raises(UserError, match="grey images; those of x have 3 channels"):
        measure.assess([run], measure.Images(colour, "x"), tta=True)


def test_the_command(three_steps, tmp_path, command_env):
    rng = np.random.default_rng(0)
    for number in range(4):
        path = tmp_path / "png" / str(number) / "a.png"
        path.parent.mkdir(parents=True)
        Image.fromarray(rng.integers(0, 256, (28, 28), np.uint8)).save(path)
    shutil.copytree(three_steps, tmp_path / "stopped")
    (tmp_path / "stopped" / "results.json").unlink()
    png = f"--data={tmp_path / 'png'}"
    cases = {
        (png, f"--output={tmp_path / 'out'}"): "Wrote evaluation.md, its pictures and",
        (str(three_steps), png): "quickstart .seed 0.",
        (str(tmp_path / "stopped"),): "Error: .*stopped is not finished",
        ("--limit=10",): "Error: --limit .* needs --robustness",
        (f"--output={tmp_path / 'png' / '0' / 'a.png'}",): "Error: .*is not a folder",
    }
    arguments = [["evaluate", *case] for case in cases]
    results = run_each("mnist_jax", arguments, env=command_env)
    for result, message in zip(results, cases.values(), strict=True):
        assert re.search(message, result.stdout + result.stderr), result
        assert result.returncode == message.startswith("Error")
        if result.returncode:
            assert len(result.stderr.strip().splitlines()) == 1
    assert "handwriting (seed 0)" in results[0].stdout
    assert "of 4" in results[0].stdout and "no temperature" in results[0].stdout
    assert (tmp_path / "out" / "evaluation.json").exists()


@pytest.mark.skipif("MNIST_DIR" not in os.environ, reason="MNIST_DIR names no folder")
def test_the_packaged_network_on_the_official_test_set():
    run = load()
    images = measure.images_for([run], None)
    found = measure.assess([run], images)
    [entry] = found.runs
    assert entry["evaluation"]["accuracy"] == pytest.approx(run.accuracy, abs=2.5e-4)
    assert entry["calibration"]["loss_scaled"] < entry["calibration"]["loss"]
