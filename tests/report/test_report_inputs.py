"""A run folder that lacks something is answered with the name of the file."""

import json

import numpy as np
import pytest

from mnist_jax.errors import UserError
from mnist_jax.report import inputs

TEXT_FILES = [
    "config.json",
    "environment.json",
    "metrics.jsonl",
    "results.json",
    "summary.txt",
]


def test_reads_everything(fake_run):
    run = inputs.read_run(fake_run.folder)
    assert run.results == fake_run.results
    assert run.config["seed"] == 7
    assert [line["epoch"] for line in run.epochs] == sorted(list(range(1, 16)) * 2)
    predictions = inputs.read_predictions(fake_run.folder)
    np.testing.assert_array_equal(predictions.labels, fake_run.labels)
    assert predictions.logits["best"].shape == (len(fake_run.labels), 10)
    assert predictions.val is not None and len(predictions.val.labels) == 150
    with np.load(fake_run.folder / "predictions.npz") as arrays:
        for name, logits in predictions.val.logits.items():
            np.testing.assert_array_equal(logits, arrays[f"val_{name}"])


@pytest.mark.parametrize("name", TEXT_FILES)
def test_missing_file_is_named(fake_run, name):
    (fake_run.folder / name).unlink()
    with pytest.raises(UserError, match=f"{name}: no such file"):
        inputs.read_run(fake_run.folder)


@pytest.mark.parametrize("name", TEXT_FILES)
def test_file_that_is_no_text_is_named(fake_run, name):
    (fake_run.folder / name).write_bytes(b"\xff\xfe{}")
    with pytest.raises(UserError, match=f"{name} is damaged"):
        inputs.read_run(fake_run.folder)


@pytest.mark.parametrize("name", TEXT_FILES[:-1])
@pytest.mark.parametrize("text", ["", '{"epoch": 1,', "[1, 2]", "3", "\n"])
def test_damaged_json_is_named(fake_run, name, text):
    (fake_run.folder / name).write_text(text)
    with pytest.raises(UserError, match=f"{name} is damaged"):
        inputs.read_run(fake_run.folder)


def test_a_broken_line_is_named(fake_run):
    path = fake_run.folder / "metrics.jsonl"
    path.write_text(path.read_text()[:-20])
    with pytest.raises(UserError, match=r"metrics\.jsonl is damaged: line 30: "):
        inputs.read_run(fake_run.folder)


def test_a_loss_that_is_no_number_is_refused(fake_run, make_epochs):
    lines = make_epochs(2)
    lines[1]["loss"] = float("nan")
    text = "\n".join(json.dumps(line) for line in lines)
    (fake_run.folder / "metrics.jsonl").write_text(text)
    with pytest.raises(UserError, match="line 2: loss is nan"):
        inputs.read_run(fake_run.folder)


def test_an_epoch_written_twice_counts_once(fake_run):
    path = fake_run.folder / "metrics.jsonl"
    again = json.loads(path.read_text().splitlines()[-1]) | {"loss": 0.123}
    with path.open("a") as file:
        file.write(json.dumps(again) + "\n")
    epochs = inputs.read_run(fake_run.folder).epochs
    assert len(epochs) == 30 and epochs[-1]["loss"] == 0.123


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"test_accuracy": None}, "test_accuracy is missing"),
        ({"seed": "zero"}, "seed is 'zero'"),
        ({"epochs": True}, "epochs is True"),
        ({"test": {"last": {}}}, r"test\.last\.examples is missing"),
        ({"val": {"best": 3}}, r"val\.best\.expected an object, got int"),
        ({"test_weights": "middle"}, "'middle', but test has only last, best"),
    ],
)
def test_results_without_a_field_are_refused(fake_run, changes, message):
    fake_run.rewrite_results(**changes)
    with pytest.raises(UserError, match=rf"results\.json is damaged: .*{message}"):
        inputs.read_run(fake_run.folder)


def test_missing_predictions_are_named(fake_run):
    (fake_run.folder / "predictions.npz").unlink()
    with pytest.raises(UserError, match=r"predictions\.npz: no such file"):
        inputs.read_predictions(fake_run.folder)


@pytest.mark.parametrize("damage", ["empty", "cut", "text", "bytes", "stream", "array"])
def test_damaged_predictions_are_named(fake_run, damage):
    path = fake_run.folder / "predictions.npz"
    content = path.read_bytes()
    middle = len(content) // 2
    # ZIP: 30 bytes that end with two lengths, of a name and of extras, and then data.
    data = 30 + sum(int.from_bytes(content[at : at + 2], "little") for at in (26, 28))
    if damage == "array":
        with path.open("wb") as file:
            np.save(file, np.zeros(3))
    else:
        path.write_bytes(
            {
                "empty": b"",
                "cut": content[:middle],
                # A kind of block that deflate does not have.
                "stream": content[:data] + b"\xff" + content[data + 1 :],
                "text": b"no archive at all",
                "bytes": content[:middle] + b"\xff" * 64 + content[middle + 64 :],
            }[damage]
        )
    with pytest.raises(UserError, match=r"predictions\.npz is damaged"):
        inputs.read_predictions(fake_run.folder)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"labels": np.zeros(3), "last": np.zeros((3, 10))}, "best"),
        (
            {
                "labels": np.zeros(3),
                "last": np.zeros((3, 10)),
                "best": np.zeros((2, 10)),
            },
            r"labels are \(3,\), best is \(2, 10\)",
        ),
        (
            {
                "labels": np.zeros(3),
                "last": np.zeros((3, 10)),
                "best": np.zeros((3, 10)),
                "val_labels": np.zeros(2),
                "val_last": np.zeros((3, 10)),
                "val_best": np.zeros((3, 10)),
            },
            r"labels are \(2,\), last is \(3, 10\)",
        ),
    ],
)
def test_incomplete_predictions_are_named(fake_run, arrays, message):
    np.savez(fake_run.folder / "predictions.npz", **arrays)
    with pytest.raises(UserError, match=rf"predictions\.npz is damaged: .*{message}"):
        inputs.read_predictions(fake_run.folder)
