"""Loaded networks: they predict as their runs reported, bit for bit."""

import json
import shutil
import struct

import jax
import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import save_file

import mnist_jax
from configs import base
from mnist_jax import evaluation, experiment, models
from mnist_jax.errors import UserError
from mnist_jax.runs.folder import RunFolder
from mnist_jax.runs.load import load
from tests.conftest import of_three_steps, run_small
from tests.support.small_vgg import Narrow

pytestmark = pytest.mark.usefixtures("little_optimized", "without_pictures")


def last(config):
    """The last epoch's weights, while an earlier one was better."""
    config.phases[0].optimizer.learning_rate = 0.3


def best(config):
    last(config)
    config.test_weights = "best"


def average(config):
    config.phases[0].ema_decay = 0.9


def restored(config):
    last(config)
    config.phases[0].early_stopping.update(
        monitor="train_loss", patience=1, restore_best=True
    )


def two_phases(config):
    config.phases = tuple(base.get_phase() for _ in range(2))
    for phase, freeze in zip(config.phases, (("conv",), ()), strict=True):
        phase.update(epochs=1, batch_size=15, freeze=freeze)


def batch_norm(config):
    config.model.name = "fast_cnn"


def dropout(config):
    config.model.name = "double_cnn"
    config.phases[0].epochs = 1


def bfloat16(config):
    config.dtype = "bfloat16"


def larger_vgg(config):
    config.model = base.get_model("vgg16")
    config.model.update(input_size=40, preprocess="imagenet")
    config.phases[0].epochs = 1


def xla(config):
    config.convolutions = "xla"


WAYS = [
    *(best, restored, batch_norm, bfloat16, larger_vgg),
    # VGG has dropout too; other tests have phases, averages and a form of convolutions.
    *(
        pytest.param(way, marks=pytest.mark.exhaustive)
        for way in (last, average, two_phases, dropout, xla)
    ),
]


@pytest.mark.parametrize("way", WAYS)
def test_a_loaded_run_says_what_the_run_reported(
    way, small_config, small, tmp_path, monkeypatch
):
    monkeypatch.setitem(models.MODELS, "vgg16", Narrow)
    way(small_config)
    results = experiment.run(experiment.parse(small_config), tmp_path / "run")
    if way in (last, best):
        assert results["best_epoch"] < results["epochs"]  # so that they differ
    moved = shutil.move(tmp_path / "run", tmp_path / "moved")
    run = load(moved)
    counting = small_config.test_weights
    predictions = np.load(RunFolder(moved).predictions)
    for split, prefix in (("test", ""), ("val", "val_")):
        part = getattr(small, split)
        logits = run.logits(part.images)
        np.testing.assert_array_equal(logits, predictions[prefix + counting])
        assert evaluation.evaluate(logits, part.labels) == results[split][counting]
        np.testing.assert_array_equal(part.labels, predictions[f"{prefix}labels"])
    assert run.accuracy == results["test_accuracy"]
    assert run.results == results


@pytest.fixture
def folder(three_steps, tmp_path):
    return RunFolder(shutil.copytree(three_steps, tmp_path / "copy"))


def test_the_file_of_weights_is_enough(folder, small, tmp_path, three_steps):
    alone = shutil.copy(folder.weights, tmp_path / "alone.safetensors")
    run = mnist_jax.load_run(alone)
    assert run.results is None and run.tested_on == "test"
    assert run.classes == tuple("0123456789")
    expected = load(three_steps).predict(small.test.images)
    np.testing.assert_array_equal(run.predict(small.test.images), expected)


def test_a_published_run_is_a_run(folder, small, three_steps):
    """It has neither checkpoints nor predictions."""
    shutil.rmtree(folder.checkpoints)
    folder.predictions.unlink()
    images = small.test.images
    expected = load(three_steps).predict(images)
    np.testing.assert_array_equal(load(folder.path).predict(images), expected)


# -- predicting


@pytest.fixture(scope="module")
def run(three_steps):
    return load(three_steps)


def test_probabilities_sum_to_one(run, small):
    probabilities = run.predict(small.test.images)
    assert probabilities.shape == (len(small.test.images), 10)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-6)


@pytest.mark.parametrize("count", [0, 1, 3, 50])
def test_any_number_of_images_in_any_form(run, small, count):
    images = small.test.images[:count]
    expected = run.predict(small.test.images)[:count]
    for same in (images, images[..., 0], images / 255, images.astype("float32") / 255):
        given = run.predict(same)
        assert given.dtype == np.float32
        np.testing.assert_allclose(given, expected, atol=1e-6)


def test_a_single_image_is_a_batch_of_one(run, small):
    expected = run.predict(small.test.images)[:1]
    for image in (small.test.images[0], small.test.images[0, :, :, 0]):
        np.testing.assert_allclose(run.predict(image), expected, atol=1e-6)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (np.zeros((2, 32, 32), np.uint8), r"must be \[n, 28, 28\].*got \[2, 32, 32\]"),
        (np.zeros((2, 28, 28, 3), np.uint8), r"got \[2, 28, 28, 3\]"),
        (np.zeros((2, 28, 28), np.int64), "must be uint8 .* got int64"),
        (np.full((2, 28, 28), 255.0), r"in 0..1, got 0..255; divide by 255"),
        (np.full((2, 28, 28), -0.5), "in 0..1, got -0.5"),
        (np.full((2, 28, 28), np.nan), "in 0..1, got nan"),
        ([["a"]], r"got \[1, 1\]"),
    ],
)
def test_other_images_are_refused(run, images, message):
    with pytest.raises(ValueError, match=message):
        run.predict(images)


# -- what cannot be loaded


def rewrite(path, *, change=lambda tensors: None, **metadata):
    """Write a file of weights again, with other tensors or metadata."""
    with safe_open(path, "numpy") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}
        found = file.metadata() | metadata
    change(tensors)
    path.unlink()
    save_file(tensors, path, {k: v for k, v in found.items() if v is not None})


def test_a_run_without_weights_is_named(folder):
    folder.weights.unlink()
    with pytest.raises(
        UserError, match=r"has no weights.safetensors.*published without"
    ):
        load(folder.path)


def test_an_unfinished_run_is_named(folder):
    folder.results.unlink()
    with pytest.raises(UserError, match="is not finished"):
        load(folder.path)


@pytest.mark.parametrize("path", [".", "nothing", "x.safetensors"])
def test_what_is_not_a_run_is_named(tmp_path, path):
    with pytest.raises(UserError, match=r"not a run folder|Cannot read .*No such file"):
        load(tmp_path / path)


def test_a_flipped_bit_is_noticed(folder):
    content = bytearray(folder.weights.read_bytes())
    content[-1000] ^= 0x40
    folder.weights.write_bytes(content)
    with pytest.raises(UserError, match=r"weights.safetensors is damaged: .*checksum"):
        load(folder.path)


def test_a_file_cut_short_is_noticed(folder):
    folder.weights.write_bytes(folder.weights.read_bytes()[:-1000])
    with pytest.raises(UserError, match=r"weights.safetensors is damaged"):
        load(folder.path)


@pytest.mark.parametrize("text", ["", "[]", "null", '{"test": {'])
@pytest.mark.parametrize("name", ["config", "environment", "results"])
def test_a_damaged_record_is_one_error_and_stays(folder, small, name, text):
    """Even if only the report is left to write: the run is not tested again."""
    path = getattr(folder, name)
    path.write_text(text)
    folder.report.unlink()
    with pytest.raises(UserError, match=f"{name}.json is damaged"):
        run_small(of_three_steps(), small, folder.path)
    if name != "config":
        with pytest.raises(UserError, match=f"{name}.json is damaged"):
            load(folder.path)
    assert path.read_text() == text


def other_numbers(tensors):
    tensors["logits/bias"] = tensors["logits/bias"] + 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"mnist_jax_network": "double_cnn"}, "missing: block1_conv1/bias"),
        ({"mnist_jax_network": "lenet6"}, "cannot be used here.*no such network"),
        ({"config": "{"}, "is damaged.*in its metadata"),
        ({"config": '{"sed": 3}'}, "its metadata: config.sed: no such field"),
        ({"config": None}, "does not say which experiment"),
        *(
            ({name: value}, "is damaged.*in its metadata")
            for name, value in (
                *(("accuracy", text) for text in ("much", "nan", "7")),
                *(("classes", text) for text in ("[]", "[" * 100_000)),
                *(("image_shape", f"[28, {side}, 1]") for side in (0, 10**9, "1e400")),
                *(("config", "[" * 100_000), ("tested_on", "all")),
            )
        ),
        ({"config": "3"}, "cannot be used here.*must be a section"),
        ({"classes": json.dumps(["\x1b[m", *"123456789"])}, "control characters"),
        ({"classes": '["0", "1"]'}, "of another shape: logits/bias"),
        ({"sha256": None, "change": other_numbers}, "does not have the weights that"),
    ],
)
def test_metadata_that_lies_is_noticed(folder, changes, message):
    rewrite(folder.weights, **changes)
    with pytest.raises(UserError, match=message):
        load(folder.path)


def test_numbers_that_numpy_lacks_are_named(tmp_path):
    head = b'{"a": {"dtype": "F8_E4M3", "shape": [1], "data_offsets": [0, 1]}}'
    (tmp_path / "x").write_bytes(struct.pack("<Q", len(head)) + head + b"x")
    with pytest.raises(UserError, match="a type that NumPy lacks"):
        load(tmp_path / "x")


def test_a_platform_without_a_device_is_named(monkeypatch):
    def none():
        raise AssertionError

    monkeypatch.setattr(jax, "devices", none)
    with pytest.raises(UserError, match="JAX found no device"):
        mnist_jax.load_run()


def test_a_run_without_onednn_is_computed_without(folder):
    environment = json.loads(folder.environment.read_text())
    folder.environment.write_text(json.dumps(environment | {"convolutions": "XLA"}))
    assert load(folder.path).model.convolutions == "cpu"
