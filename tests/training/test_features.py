"""Features of a frozen body: the same training, and never those of something else."""

import dataclasses
import json
import logging
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import base, vgg16
from mnist_jax import experiment, models
from mnist_jax.config import Model
from mnist_jax.data import DIGITS
from mnist_jax.devices import parallel
from mnist_jax.runs.folder import RunFolder
from mnist_jax.runs.run import Run
from mnist_jax.training import features, state, step
from mnist_jax.training.freezing import Freeze
from tests.conftest import make_small_config, run_small
from tests.support.drawing import draw_weights
from tests.support.runs import Killed, kill_at, outcome, reported_weights
from tests.support.small_vgg import Narrow
from tests.support.training_parts import make_phase

pytestmark = pytest.mark.usefixtures("little_optimized")


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "mnist_jax"


def make_config():
    """Two phases, the first with a frozen body."""
    config, report = make_small_config(), vgg16.get_config()
    for phase, epochs in zip(report.phases, (3, 1), strict=True):
        phase.update(epochs=epochs, batch_size=16)
        phase.optimizer.learning_rate = 1e-3
    config.phases = report.phases
    config.model.name = "vgg16"
    return config


@pytest.fixture
def config(small_config, monkeypatch, without_pictures):
    """The same, with the images of `small`."""
    monkeypatch.setitem(models.MODELS, "vgg16", Narrow)
    return make_config()


@pytest.fixture(scope="module")
def reused(small, tmp_path_factory):
    """The folder of such a run, and the files of features that it kept."""
    folder = tmp_path_factory.mktemp("reused")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(models.MODELS, "vgg16", Narrow)
        patch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        run_small(make_config(), small, folder / "run")
    return folder / "run", list((folder / "cache" / "mnist_jax").iterdir())


def params_of(folder):
    return reported_weights(folder)[0]


def test_the_same_training_comes_out(config, tmp_path, reused):
    folder, kept = reused
    assert len(kept) == 2  # to train on, to validate on
    config.phases[0].reuse_features = "never"
    anew = experiment.run(experiment.parse(config), tmp_path)
    results = RunFolder(folder).read_results()
    assert results is not None
    assert results["test"]["last"]["confusion"] == anew["test"]["last"]["confusion"]
    assert results["best_epoch"] == anew["best_epoch"]
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=0, atol=2e-5),
        params_of(folder),
        params_of(tmp_path),
    )


def test_the_time_of_computing_them_is_time_of_training(config, tmp_path, monkeypatch):
    compute = features.Features.of

    def compute_slowly(self, split):
        time.sleep(0.2)
        return compute(self, split)

    monkeypatch.setattr(features.Features, "of", compute_slowly)
    config.phases = config.phases[:1]
    config.phases[0].epochs = 1
    results = experiment.run(experiment.parse(config), tmp_path / "run")
    lines = RunFolder(tmp_path / "run").metrics.read_text().splitlines()
    metrics = [json.loads(line) for line in lines]
    epochs = sum(entry["seconds"] for entry in metrics if entry["split"] == "train")
    assert results["wall_seconds"] > results["train_seconds"] > epochs + 0.4


@pytest.mark.parametrize("reuse", ["auto", "never"])
def test_a_step_of_the_phase_has_no_convolution(reuse, config, small):
    config.phases[0].reuse_features = reuse
    parsed = experiment.parse(config)
    model, (phase, _) = experiment.check(parsed)
    current = state.create(*draw_weights(model), phase)
    apply_fn, train, val = features.inputs_of_phase(
        parsed, model, phase, small, [current]
    )
    program = jax.make_jaxpr(
        lambda params: apply_fn(
            params, {}, step.to_input(train.images), train=True, key=jax.random.key(0)
        )[0]
    )(current.params)
    assert ("conv_general_dilated" in str(program)) == (reuse == "never")
    shape = (28, 28, 1) if reuse == "never" else (8, 8, 16)
    assert train.images.shape == (64, *shape)
    assert val.images.shape == (30, *shape)


@pytest.mark.slow
def test_pretrained_seeds_share_them_and_train_as_each_alone(config, tmp_path):
    for phase in config.phases:
        phase.epochs = 1
    experiment.run(experiment.parse(config), tmp_path / "first")
    config.model.pretrained = str(tmp_path / "first" / "weights.safetensors")
    config.model.pretrained_layers = ("block.*",)
    parsed = experiment.parse(config)
    folders = {seed: tmp_path / f"seed{seed}" for seed in (0, 1)}
    experiment.run_seeds(parsed, folders)
    log = RunFolder(folders[1]).log.read_text()
    assert "are computed once, for all epochs of phase" in log
    assert "arrays are those of" in log and "2 seeds train together" in log
    experiment.run(dataclasses.replace(parsed, seed=1), tmp_path / "alone")
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=0, atol=2e-5),
        params_of(folders[1]),
        params_of(tmp_path / "alone"),
    )


def test_a_run_that_goes_on_finds_them_again(config, tmp_path, monkeypatch, reused):
    with monkeypatch.context() as patch:
        kill_at(patch, Run, "save", 2)
        with pytest.raises(Killed):
            experiment.run(experiment.parse(config), tmp_path / "killed")
    monkeypatch.setattr(features, "_run_until", lambda *_, **__: pytest.fail("again"))
    experiment.run(experiment.parse(config), tmp_path / "killed")
    assert outcome(tmp_path / "killed") == outcome(reused[0])


def test_where_images_are_augmented_nothing_is_reused(config, tmp_path, cache):
    config.augment.rotation = 10.0
    config.phases = config.phases[:1]
    config.phases[0].epochs = 1
    experiment.run(experiment.parse(config), tmp_path / "run")
    assert not cache.exists()


@pytest.mark.parametrize("same", [True, False])
def test_seeds_share_features_if_their_frozen_weights_are_the_same(
    same, config, small, caplog
):
    parsed = experiment.parse(config)
    model, (phase, _) = experiment.check(parsed)
    states = [
        state.create(*draw_weights(model, 0 if same else seed), phase)
        for seed in (0, 1)
    ]
    caplog.set_level(logging.INFO)
    _, train, _ = features.inputs_of_phase(parsed, model, phase, small, states)
    assert train.images.shape == (64, *((8, 8, 16) if same else (28, 28, 1)))
    assert ("they differ from seed to seed" in caplog.text) == (not same)


@pytest.mark.parametrize(("megabytes", "reused"), [(3.47, True), (3.46, False)])
def test_features_beyond_the_budget_are_not_computed(
    megabytes, reused, config, small, cache, caplog
):
    """64 and 30 images of 24x24x16 numbers take 3.465 MB."""
    config.features_megabytes = megabytes
    config.model = base.get_model("vgg16")
    config.model.input_size = 96
    config = experiment.parse(config)
    model, (phase, _) = experiment.check(config)
    current = state.create(*draw_weights(model), phase)
    caplog.set_level(logging.INFO)
    _, train, _ = features.inputs_of_phase(config, model, phase, small, [current])
    assert train.images.shape == (64, *((24, 24, 16) if reused else (28, 28, 1)))
    assert cache.exists() == reused
    numbers = "would take 3 MB, and --config.features_megabytes is 3.46"
    assert (numbers in caplog.text) == (not reused)


def test_the_budget_holds_the_report_s_recipe_and_not_a_single_block():
    model = models.create(Model("vgg16"), DIGITS)
    budget = vgg16.get_config().features_megabytes * 10**6
    assert features.count_bytes(model, 5, 60_000) == 60_000 * 512 * 4 < budget
    assert features.count_bytes(model, 1, 60_000) > budget


@pytest.mark.parametrize(
    ("freeze", "expected"),
    [
        ((), 0),
        (("block",), 5),
        (("block[12]_",), 2),
        (("block2_",), 0),
        (("block1_conv1",), 0),
        (("block1", "block3"), 1),
        (("dense1",), 0),
        ((".*/kernel",), 0),
    ],
)
def test_only_whole_stages_from_the_first_on_count(freeze, expected):
    model = models.create(Model("vgg16"), DIGITS)
    params, _ = model.shapes
    phase = dataclasses.replace(make_phase(), freeze=Freeze(freeze))
    assert features.frozen_stages(model, phase, params) == expected


def test_a_network_that_cannot_be_taken_apart_is_left_whole():
    model = models.create(Model("lenet5"), DIGITS)
    params, _ = model.shapes
    phase = dataclasses.replace(make_phase(), freeze=Freeze(("conv",)))
    assert features.frozen_stages(model, phase, params) == 0


MODEL = models.Model("small", Narrow(num_classes=10), DIGITS)
IMAGES = np.random.default_rng(0).integers(0, 256, (7, 28, 28, 1), np.uint8)


def batch(images=IMAGES):
    return step.Batch(jnp.asarray(images), jnp.zeros(len(images), jnp.uint8))


def compute(*, model=MODEL, seed=0, stop=1, images=IMAGES, batch_size=4):
    params, stats = draw_weights(model, seed)
    known = features.Features(
        model, stop, params, stats, devices=parallel.every(), batch_size=batch_size
    )
    expected = model.run_until(stop, params, stats, step.to_input(jnp.asarray(images)))
    found = known.of(batch(images)).images
    # Relative to the largest: in sums that nearly cancel, rounding remains.
    tolerance = 1e-6 * np.abs(expected).max()
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance)
    return np.asarray(found)


def test_each_thing_that_they_depend_on_has_a_file_of_its_own(cache):
    """`compute` holds each against the network itself."""
    changed = IMAGES.copy()
    changed[3, 4, 5, 0] ^= 1
    variations: list[dict[str, Any]] = [
        {},
        {"seed": 1},
        {"stop": 2},
        {"images": changed},
        {"images": IMAGES[:5]},
        {"model": models.Model("small", Narrow(num_classes=10, input_size=64), DIGITS)},
        {
            "model": models.Model(
                "small", Narrow(num_classes=10, preprocess="imagenet"), DIGITS
            )
        },
    ]
    for number, fields in enumerate(variations, start=1):
        compute(**fields)
        assert len(list(cache.iterdir())) == number
    compute(batch_size=7)  # changes nothing but rounding
    assert len(list(cache.iterdir())) == len(variations)


def test_a_layer_behind_them_makes_no_difference(cache):
    params, stats = draw_weights(MODEL)
    changed = params | {"logits": jax.tree.map(lambda x: x + 1, params["logits"])}
    for each in (params, changed):
        features.Features(
            MODEL, 2, each, stats, devices=parallel.every(), batch_size=4
        ).of(batch())
    assert len(list(cache.iterdir())) == 1


@pytest.mark.parametrize("damage", ["cut off", "changed", "empty"])
def test_a_damaged_file_is_computed_anew(damage, cache, caplog):
    first = compute()
    (path,) = cache.iterdir()
    whole = bytearray(path.read_bytes())
    whole[-5] ^= 1
    content = {"cut off": whole[:100], "changed": whole, "empty": b""}[damage]
    path.write_bytes(content)
    with caplog.at_level(logging.WARNING):
        np.testing.assert_array_equal(compute(), first)
    assert "is damaged" in caplog.text and str(path) in caplog.text
    caplog.clear()
    compute()
    assert all(record.levelno < logging.WARNING for record in caplog.records)


def test_a_cache_that_cannot_be_written_is_no_reason_to_stop(cache, caplog):
    cache.parent.mkdir(parents=True)
    cache.write_text("a file where the folder should be")
    compute()
    assert "are not kept for another run" in caplog.text


def test_the_oldest_files_go_when_there_are_too_many(cache, monkeypatch):
    compute()
    (first,) = cache.iterdir()
    monkeypatch.setattr(features, "_MOST_BYTES", 3 * first.stat().st_size)
    for seed in (1, 2):
        compute(seed=seed)
    compute()  # the first again: used, so no longer the oldest
    compute(seed=3)
    kept = list(cache.iterdir())
    assert len(kept) == 3 and first in kept
