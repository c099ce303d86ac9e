"""A run folder that lacks something is answered with the name of the file."""

import json

import pytest

from mnist_jax import report
from mnist_jax.errors import UserError
from mnist_jax.report import record
from tests.report.conftest import DEFAULTS, DIGITS, make_epochs

JSON_FILES = ["config.json", "environment.json", "results.json", "metrics.jsonl"]
TEXT_FILES = [*JSON_FILES, "summary.txt"]


def assert_refused(fake_run, message):
    """Both reader and report refuse the run, before anything is written."""
    before = sorted(fake_run.folder.rglob("*"))
    with pytest.raises(UserError, match=message) as raised:
        record.read(fake_run.folder, complete=True)
    assert "\n" not in str(raised.value)
    with pytest.raises(UserError, match=message):
        report.write(fake_run.folder, fake_run.images, DEFAULTS)
    assert sorted(fake_run.folder.rglob("*")) == before


def test_everything_is_read(fake_run):
    found = record.read(fake_run.folder, complete=True)
    assert found.results == fake_run.results
    assert (found.name, found.seed, found.kind) == ("lenet5", 7, "network")
    assert (found.classes, found.tested_on) == (DIGITS, "test")
    assert found.epochs == make_epochs(15)
    assert found.hardware == "CPU, 2 cores"
    for split in ("test", "val"):
        for weights in ("last", "best"):
            expected = fake_run.results[split][weights]["accuracy"]
            assert found.accuracy(split, weights) == expected


def test_other_predictors_have_a_record_without_epochs(fake_run):
    lacking = dict.fromkeys(["epochs", "best_epoch", "best_monitor", "val"])
    fake_run.rewrite_results(kind="ensemble", **lacking)
    (fake_run.folder / "metrics.jsonl").unlink()
    assert record.read(fake_run.folder).kind == "ensemble"
    assert_refused(fake_run, r"results\.json is of a run of the kind 'ensemble'")


@pytest.mark.parametrize("name", TEXT_FILES)
def test_a_file_that_is_missing_or_not_text_is_named(fake_run, name):
    (fake_run.folder / name).write_bytes(b"\xff\xfe{}")
    assert_refused(fake_run, f"{name} is damaged")
    (fake_run.folder / name).unlink()
    assert_refused(fake_run, f"{name}: no such file")


@pytest.mark.parametrize("name", JSON_FILES)
@pytest.mark.parametrize("text", ["", '{"epoch": 1,', "[1, 2]"])
def test_damaged_json_is_named(fake_run, name, text):
    (fake_run.folder / name).write_text(text)
    assert_refused(fake_run, f"{name} is damaged")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"epoch": 1, "ph', "line 30: "),
        (json.dumps(make_epochs(1)[0] | {"loss": float("nan")}), "30: loss is nan"),
        (json.dumps({"epoch": 1, "phase": "a", "split": "val"}), "30: loss is missing"),
    ],
)
def test_a_damaged_line_is_named(fake_run, line, message):
    path = fake_run.folder / "metrics.jsonl"
    lines = path.read_text().splitlines()
    path.write_text("\n".join([*lines[:-1], line]))
    assert_refused(fake_run, rf"metrics\.jsonl is damaged: .*{message}")


def test_an_epoch_written_twice_counts_once(fake_run):
    path = fake_run.folder / "metrics.jsonl"
    again = json.loads(path.read_text().splitlines()[-1]) | {"loss": 0.123}
    with path.open("a") as file:
        file.write(json.dumps(again) + "\n")
    epochs = record.read(fake_run.folder).epochs
    assert len(epochs) == 30 and epochs[-1]["loss"] == 0.123


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"test_accuracy": None}, "test_accuracy is missing"),
        ({"test_accuracy": 98.5}, "test_accuracy is 98.5"),
        ({"seed": "zero"}, "seed is 'zero'"),
        ({"epochs": True}, "epochs is True"),
        ({"test": {"last": {}, "best": {}}}, r"test\.\w+: examples is missing"),
        ({"test_weights": "middle"}, "test_weights is 'middle'"),
        ({"classes": "0 1 2"}, "classes is '0 1 2'"),
        ({"kind": "x", "classes": ["a", 1]}, r"classes is \['a', 1\]"),
        ({"classes": ["a", "b"]}, "not of 2 classes"),
    ],
)
def test_results_without_a_field_are_refused(fake_run, changes, message):
    fake_run.rewrite_results(**changes)
    assert_refused(fake_run, rf"results\.json is damaged: .*{message}")


@pytest.mark.parametrize("content", [b"", b"no archive", None])
def test_damaged_predictions_are_named(fake_run, content):
    path = fake_run.folder / "predictions.npz"
    path.write_bytes(path.read_bytes()[:-200] if content is None else content)
    with pytest.raises(UserError, match=r"predictions\.npz is damaged"):
        report.write(fake_run.folder, fake_run.images, DEFAULTS)
    assert not (fake_run.folder / "figures").exists()


def test_images_of_another_set_are_refused(fake_run):
    with pytest.raises(UserError, match=r"predictions\.npz is about other images"):
        report.write(fake_run.folder, fake_run.images[1:], DEFAULTS)
    with pytest.raises(UserError, match=r"predictions\.npz is about other images"):
        report.write(fake_run.folder, fake_run.images[::-1], DEFAULTS)
    assert not (fake_run.folder / "figures").exists()
