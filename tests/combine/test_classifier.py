"""Classifiers of features: fitted as scikit-learn does, saved, refused, in commands."""

import dataclasses
import hashlib
import json
import os
import shutil
from typing import Any

import jax
import numpy as np
import pytest
import skops.io
from sklearn.base import clone
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.preprocessing import FunctionTransformer

from configs import quickstart
from mnist_jax import demo, experiment, export, load_run, models
from mnist_jax.combine import classifier
from mnist_jax.combine.features import make_extractor
from mnist_jax.commands import measure
from mnist_jax.config import Model
from mnist_jax.errors import UserError
from mnist_jax.report import compare
from mnist_jax.runs import load, weights
from tests.conftest import LITTLE_OPTIMIZED, run_without_pictures
from tests.support.commands import check_lines, run
from tests.support.made_data import THREE, make

pytestmark = pytest.mark.usefixtures("little_optimized")
IMAGES, LABELS = make(3, 60, seed=2)
NAMES = [*classifier.FAMILIES, *(f"{name}_pixels" for name in classifier.FAMILIES)]


@pytest.fixture(scope="module")
def folder(little_optimized, command_env, tmp_path_factory):
    """A folder with a run, `net`, and all classifiers of it, below `out put`."""
    folder = tmp_path_factory.mktemp("classified it")
    config = quickstart.get_config()
    config.name = "a & b"
    config.seed = 3
    config.data.update(source="tests.support.made_data:three", val_size=60)
    config.model = {"name": "tests.support.own_nets:TwoOutputs"}
    config.phases[0].update(epochs=1, batch_size=10)
    with run_without_pictures():
        experiment.run(experiment.parse(config), folder / "net")
    words = [str(folder / "net"), f"--output={folder / 'out put'}", "--images=80"]
    ended = run("mnist_jax", "classify", *words, env=command_env | LITTLE_OPTIMIZED)
    assert ended.returncode == 0, ended.stderr
    assert all(name in ended.stdout for name in ("softmax", *NAMES, "stack"))
    assert "80 training images" in (folder / "out put" / "report.html").read_text()
    return folder


@pytest.fixture
def copy(folder, tmp_path):
    """A copy of the run and of one classifier, to be changed."""
    shutil.copytree(folder / "net", tmp_path / "net")
    return shutil.copytree(folder / "out put" / "svm", tmp_path / "out put" / "svm")


def test_features_are_those_that_the_network_sows(folder):
    network = load.load(folder / "net")
    found = make_extractor(network, "features")(IMAGES[..., None])
    scaled = np.float32(IMAGES[..., None]) / 255
    sown = jax.jit(network.model.features)(network.params, network.batch_stats, scaled)
    np.testing.assert_allclose(found, sown, atol=1e-5)
    last = network.params["logits"]
    logits = found @ np.asarray(last["kernel"]) + np.asarray(last["bias"])
    np.testing.assert_allclose(logits, network.logits(IMAGES), atol=1e-4)
    pixels = make_extractor(network, "pixels")(IMAGES[..., None])
    np.testing.assert_allclose(pixels, scaled.reshape(60, -1), rtol=1e-6)
    mlp = models.create(Model("tests.support.own_nets:MLP"), network.task)
    with pytest.raises(UserError, match="no features to classify.*MLP does not sow"):
        make_extractor(dataclasses.replace(network, model=mlp), "features")


@pytest.mark.parametrize("family", classifier.FAMILIES)
def test_the_best_on_validation_images_predicts_as_scikit_learn(family, monkeypatch):
    for name, size in (("forest", "n_estimators"), ("boosting", "max_iter")):
        base, grid = classifier.FAMILIES[name]
        fewer = clone(base).set_params(**{size: 10})
        monkeypatch.setitem(classifier.FAMILIES, name, (fewer, grid))
    rng = np.random.default_rng(0)
    for labels in ([0, 1, 2, 3], [1, 3]):  # of five classes
        drawn = [rng.choice(labels, 60).astype(np.uint8) for _ in range(2)]
        train, val = (
            ((rng.normal(size=(60, 5)) + np.eye(5)[each]).astype(np.float32), each)
            for each in drawn
        )
        estimator, temperature, chosen = classifier.fit(
            family, train, val, classes=5, seed=1
        )
        candidates = classifier._candidates(family, 60, 1).items()
        scores = {name: each.fit(*train).score(*val) for name, each in candidates}
        assert scores[chosen] == max(scores.values()) == estimator.score(*val)
        logits = classifier._logits(estimator, val[0], 5, temperature)
        assert logits.dtype == np.float32 and np.isfinite(logits).all()
        np.testing.assert_array_equal(logits.argmax(axis=1), estimator.predict(val[0]))


@pytest.mark.parametrize("name", NAMES)
def test_loaded_it_predicts_as_when_it_was_fitted(name, folder):
    path = folder / "out put" / name
    found = load_run(path)
    assert isinstance(found, classifier.Classifier) and found.classes == THREE
    stored = np.load(path / "predictions.npz")
    np.testing.assert_array_equal(found.logits(IMAGES), stored["logits"])
    np.testing.assert_array_equal(LABELS, stored["labels"])
    right = (stored["logits"].argmax(axis=1) == LABELS).mean()
    assert found.results and found.accuracy == right
    assert found.seed == 3


def test_every_command_takes_it(folder, command_env, tmp_path):
    paths = [folder / "out put" / name for name in ("svm", "forest_pixels")]
    found = [load_run(path) for path in paths]
    images = measure.images_for(found, None)
    for each, entry in zip(found, measure.assess(found, images).runs, strict=True):
        assert each.results
        assert entry["evaluation"] == each.results["test"]["logits"]
    app = demo.App(found, demo.Corrections(tmp_path))
    [answer, _] = app.predict(IMAGES[0].tobytes(), [0, 1])["answers"]
    expected = found[0].predict(IMAGES[:1])[0]
    np.testing.assert_allclose(
        answer["digits"][0]["probabilities"], expected, atol=1e-5
    )
    compared = compare.read([folder])
    assert len(compared.groups) == 10 and not compared.notes
    stack: Any = load_run(folder / "out put" / "stack")
    names = [member.name for member in stack.members]
    assert names == ["a & b", *(f"{name} on a & b" for name in classifier.FAMILIES)]
    with pytest.raises(UserError, match="svm cannot be exported"):
        export.write(found[0], tmp_path / "x.onnx", format="onnx")
    net, svm, out = folder / "net", paths[0], f"--output={tmp_path / 'new'}"
    shutil.copytree(net, tmp_path / "val")
    on_val = tmp_path / "val" / "weights.safetensors"
    tensors, metadata = weights.read(on_val)
    weights.write(on_val, tensors, metadata | {"tested_on": "val"})
    cases = [
        ([], 2, "Give one run, and a folder"),
        ([net], 2, "Give one run, and a folder"),
        ([net, out, "--with=all,tree"], 2, "there is no 'tree' .known: forest"),
        ([net, out, "--with="], 2, "there is no '' .known: forest"),
        ([svm, out], 1, "svm is not the run folder of a network"),
        ([folder / "out put" / "stack", out], 1, "stack is not the run folder"),
        ([net / "weights.safetensors", out], 1, "is not the run folder of a network"),
        ([tmp_path / "val", out], 1, "tested on its validation images"),
        ([net, f"--output={folder}"], 1, "holds other files"),
        ([net, out, "--with=svm", "--images=2"], 1, "--images=2: must be at least 3"),
    ]
    check_lines("classify", cases, env=command_env | LITTLE_OPTIMIZED)
    assert not (tmp_path / "new").exists()


def write_skops(folder, content):
    """Put another file into a run folder, with the right checksum."""
    (folder / "classifier.skops").write_bytes(content)
    results = json.loads((folder / "results.json").read_text())
    results["parameters_sha256"] = hashlib.sha256(content).hexdigest()
    (folder / "results.json").write_text(json.dumps(results))


def test_files_that_are_damaged_or_not_scikit_learns_are_refused(copy):
    path = copy / "classifier.skops"
    content = path.read_bytes()
    rows = np.float32(IMAGES.reshape(60, -1)[:, 300:310])
    forest = RandomForestClassifier(2, random_state=0).fit(rows, LABELS)
    forest.estimators_[1].tree_.feature[0] = 10
    boosting = HistGradientBoostingClassifier(max_iter=1).fit(rows, LABELS)
    boosting._predictors[0][2].nodes["left"][0] = 0
    foreign = skops.io.dumps(FunctionTransformer(os.getcwd))
    for changed, message in {
        foreign: r"types that are not scikit-learn's \((posix|nt).getcwd\)",
        skops.io.dumps(forest): "damaged: .*indices out of range",
        skops.io.dumps(boosting): "damaged: .*indices out of range",
        b"": "damaged: ",
        content[:-100]: "damaged: BadZipFile",
    }.items():
        write_skops(copy, changed)
        with pytest.raises(UserError, match=message) as error:
            load_run(copy)
        assert "\n" not in str(error.value)
    path.write_bytes(content)
    with pytest.raises(UserError, match="does not match its checksum"):
        load_run(copy)
    write_skops(copy, content)
    assert load_run(copy).predict(IMAGES[:1]).shape == (1, 3)
    path.unlink()
    with pytest.raises(UserError, match="Cannot read .*classifier.skops: no such"):
        load_run(copy)


def test_the_network_must_be_where_and_what_it_was(copy):
    file, net = copy / "classifier.json", copy.parents[1] / "net"
    about = json.loads(file.read_text())
    for impossible in {"temperature": 0}, {"temperature": -1}, {"inputs": "names"}:
        file.write_text(json.dumps(about | impossible))
        with pytest.raises(UserError, match="classifier.json .*are not possible"):
            load_run(copy)
    file.write_text(json.dumps(about | {"network_sha256": "0"}))
    with pytest.raises(UserError, match="has changed since .*classifier.json was"):
        load_run(copy)
    net.rename(net.with_name("moved"))
    with pytest.raises(UserError, match="json names another run: Cannot read .*net"):
        load_run(copy)
    file.write_text(json.dumps(about | {"network": "../../moved"}))
    assert load_run(copy).seed == 3
