"""Ensembles: their arithmetic, what is refused, and each through every command."""

import dataclasses
import json
import shutil

import numpy as np
import pytest
from PIL import Image
from scipy.special import softmax
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from configs import quickstart
from mnist_jax import combine, data, demo, experiment, export, load_run
from mnist_jax.combine import ensemble, members, stacking
from mnist_jax.commands import measure
from mnist_jax.errors import UserError
from mnist_jax.report import compare
from mnist_jax.report.compare import page, publish
from mnist_jax.runs import load
from tests.conftest import LITTLE_OPTIMIZED, run_without_pictures
from tests.support.commands import run
from tests.support.made_data import THREE, make

pytestmark = pytest.mark.usefixtures("little_optimized")


def drawn(classes, *, count=60, runs=3):
    """Labels, and logits of some runs that are right more often than not."""
    labels = np.arange(count) % classes
    right = 2 * np.eye(classes)[labels]
    noise = np.random.default_rng(0).normal(size=(runs, count, classes))
    noisy = right + noise
    return labels, list(noisy.astype(np.float32))


@pytest.fixture(scope="module")
def runs(little_optimized, tmp_path_factory):
    """Two finished runs on classes that have names with spaces, in a folder."""
    folder = tmp_path_factory.mktemp("members of it")
    config = quickstart.get_config()
    config.name = "a & b"
    config.data.update(source="tests.support.made_data:three", val_size=60)
    config.model = {"name": "tests.support.own_nets:MLP"}
    config.phases[0].update(epochs=1, batch_size=10)
    with run_without_pictures():
        for config.seed in (3, 4):
            experiment.run(experiment.parse(config), folder / str(config.seed))
    return [folder / "3", folder / "4"]


@pytest.fixture(scope="module")
def all_made(runs, tmp_path_factory):
    """The folders of ensembles, by how they are combined."""
    folders = {by: tmp_path_factory.mktemp(by) / "of two" for by in stacking.BY}
    for by, folder in folders.items():
        ensemble.create(runs, folder, by=by, name="two runs")
    return folders


@pytest.fixture
def made(all_made):
    """The folder of one of them."""
    return all_made["stacking"]


def test_means_and_votes_are_those_of_numpy():
    _, logits = drawn(4)
    probabilities = softmax(logits, axis=-1)
    mean = probabilities.mean(axis=0)
    found = {by: stacking.combine(logits, by, {}) for by in stacking.BY if by[0] != "s"}
    np.testing.assert_allclose(np.exp(found["probabilities"]), mean, rtol=1e-5)
    np.testing.assert_allclose(found["logits"], np.mean(logits, axis=0), rtol=1e-6)
    votes = np.eye(4)[probabilities.argmax(axis=-1)].sum(axis=0)
    # The mean probability, always below 1, decides between classes of equal votes.
    expected = (votes + mean).argmax(axis=-1)
    np.testing.assert_array_equal(found["vote"].argmax(axis=-1), expected)
    np.testing.assert_allclose(np.exp(found["vote"]).sum(axis=-1), 1, rtol=1e-5)


def test_probabilities_of_zero_have_finite_logits():
    certain = np.array([[0, 1e4, -1e4]], np.float32)
    for by in ("probabilities", "vote"):
        assert np.isfinite(stacking.combine([certain, certain], by, {})).all()


@pytest.mark.parametrize("classes", [2, 3])
def test_stacking_is_the_regression_of_scikit_learn(classes):
    labels, logits = drawn(classes, count=30)
    stacker, held, cost = stacking.fit(logits, labels)
    joined = np.concatenate(logits, axis=-1).astype(np.float64)

    def predict(fitted_on, wanted):
        regression = LogisticRegression(C=cost, max_iter=2000)
        model = make_pipeline(StandardScaler(), regression)
        model.fit(joined[fitted_on], labels[fitted_on])
        return model.predict_proba(joined[wanted])

    found = softmax(stacking.combine(logits, "stacking", stacker), axis=-1)
    everything = np.arange(len(labels))
    np.testing.assert_allclose(found, predict(everything, everything), atol=1e-5)
    # The first image of each class is in the first fold.
    fold = everything[: len(labels) // stacking.FOLDS]
    others = np.setdiff1d(everything, fold)
    np.testing.assert_allclose(np.exp(held[fold]), predict(others, fold), atol=1e-5)
    trees = HistGradientBoostingClassifier(max_iter=50, random_state=0)
    trees.fit(joined[others], labels[others])
    boosted = np.exp(stacking.boosted(logits, labels)[fold])
    np.testing.assert_allclose(boosted, trees.predict_proba(joined[fold]), atol=1e-5)
    with pytest.raises(UserError, match="needs 5 validation images of each class"):
        stacking.fit([each[:8] for each in logits], labels[:8])


def test_members_are_selected_by_validation_accuracy():
    labels, logits = drawn(3, runs=4)
    found = members.table(list("abcd"), logits, labels, "probabilities").rows

    def accuracy(*chosen):
        combined = stacking.combine([logits[k] for k in chosen], "probabilities", {})
        return f"{(combined.argmax(axis=1) == labels).mean():.4f}"

    for k, (_, alone, without, _) in enumerate(found):
        assert alone == accuracy(k)
        assert without == accuracy(*({*range(4)} - {k}))
    turns = sorted((cells[-1], k) for k, cells in enumerate(found))
    order = [k for _, k in turns]
    for count, (cell, _) in enumerate(turns):
        before, left = order[:count], order[count:]
        highest = max(accuracy(*before, k) for k in left)
        assert cell == f"{count + 1}: {highest}"
        assert accuracy(*before, order[count]) == highest


@pytest.mark.parametrize("by", stacking.BY)
def test_it_is_loaded_and_exported_as_it_was_written(by, all_made, runs, tmp_path):
    made = all_made[by]
    found = load_run(made)
    assert isinstance(found, ensemble.Ensemble) and found.results
    assert found.classes == THREE
    images, labels = make(3, 60, seed=2)
    logits = found.logits(images)
    stored = np.load(made / "predictions.npz")
    np.testing.assert_array_equal(logits, stored["logits"])
    np.testing.assert_array_equal(labels, stored["labels"])
    of_members = [load.load(folder).logits(images) for folder in runs]
    combined = stacking.combine(of_members, found.by, found.stacker)
    np.testing.assert_array_equal(logits, combined)
    accuracy = (logits.argmax(axis=1) == labels).mean()
    assert found.accuracy == found.results["test_accuracy"] == accuracy
    assert found.parameters_sha256 == found.results["parameters_sha256"]
    runtime = pytest.importorskip("onnxruntime")
    export.write(found, tmp_path / "file.onnx", format="onnx")
    session = runtime.InferenceSession((tmp_path / "file.onnx").read_bytes())
    [exported] = session.run(None, {"images": images})
    np.testing.assert_allclose(exported, found.predict(images), atol=1e-5)


def test_every_command_takes_it(made, runs, tmp_path, monkeypatch):
    found = load_run(made)
    images, _ = make(3, 60, seed=2)
    expected = found.predict(images)
    evaluated = measure.images_for([found], None)
    [entry] = measure.assess([found, load_run(runs[0])], evaluated).runs[:1]
    assert entry["evaluation"]["accuracy"] == found.accuracy
    app = demo.App([found], demo.Corrections(tmp_path))
    [digit] = app.predict(images[0].tobytes(), [0])["answers"][0]["digits"]
    assert digit["label"] in THREE and b"two runs" in app.page()
    np.testing.assert_allclose(digit["probabilities"], expected[0], atol=1e-5)
    config = json.loads((made / "config.json").read_text())
    config["data"]["dir"] = "/home/me"
    monkeypatch.setattr("mnist_jax.export.card.read_json", lambda *_: config)
    for kind in ("stablehlo", "html"):
        card = export.write(found, tmp_path / f"file.{kind}", format=kind).read_text()
        assert found.parameters_sha256 in card and "two runs" in card
        assert "/home/me" not in card
    with pytest.raises(UserError, match="is no network, and a .safetensors"):
        export.write(found, tmp_path / "file.safetensors", format="safetensors")


def test_it_is_compared_and_published_beside_its_members(made, runs, tmp_path):
    found = compare.read([*runs, made])
    assert [len(group.runs) for group in found.groups] == [2, 1]
    page.write(found, tmp_path / "page")
    text = (tmp_path / "page" / "comparison.md").read_text()
    assert "two runs (ensemble), seed 3" in text and "McNemar" in text
    assert "are not drawn" not in text
    published = publish.collect(found, tmp_path)
    assert tmp_path / "two runs" / "seed3" in published
    assert publish.collect(compare.read([tmp_path]), tmp_path) == []
    with pytest.raises(UserError, match="ensemble.json: no such file"):
        load_run(tmp_path / "two runs" / "seed3")


def test_the_commands(runs, tmp_path, command_env):
    env = command_env | LITTLE_OPTIMIZED
    folder = tmp_path / "out put"
    words = ["ensemble", *map(str, runs), f"--output={folder}"]
    ended = run("mnist_jax", *words, env=env)
    assert "Test accuracy" in ended.stdout and ended.returncode == 0, ended
    assert (folder / "report.html").exists()
    images, _ = make(3, 2, seed=2)
    Image.fromarray(images[0]).save(tmp_path / "a.png")
    words = ["predict", str(tmp_path / "a.png"), f"--run={folder}", "--raw", "--json"]
    ended = run("mnist_jax", *words, env=env)
    [picture] = json.loads(ended.stdout)["pictures"]
    expected = load_run(folder).predict(images[:1]).argmax()
    assert picture["digits"][0]["digit"] == THREE[expected]
    (tmp_path / "mine").write_text("")
    ended = run("mnist_jax", "ensemble", *words[:2], f"--output={tmp_path}", env=env)
    assert "holds other files" in ended.stderr and ended.returncode == 1


def test_runs_that_do_not_go_together_are_refused(runs):
    first, second = map(load.load, runs)

    def other(**fields):
        changed = dataclasses.replace(second.config.data, **fields)
        return dataclasses.replace(
            second, config=dataclasses.replace(second.config, data=changed)
        )

    members.check([first, other(dir="/elsewhere", mirrors=(), subset_seed=4)], "vote")
    classes = second.model.task._replace(classes=("x", *THREE[1:]))
    model = dataclasses.replace(second.model, task=classes)
    for them, message in (
        ([first], "at least two"),
        ([first, first], "has the parameters of .*leave one out"),
        ([first, other(val_size=61)], "differ in data.val_size: 60 and 61"),
        ([first, other(split_seed=1)], "differ in data.split_seed: 0 and 1"),
        ([first, other(source="digits")], "differ in data.source: .*three and digits"),
        ([first, other(train_size=50)], "differ in data.train_size: 0 and 50"),
        ([first, dataclasses.replace(second, model=model)], "differ in classes"),
    ):
        with pytest.raises(UserError, match=message) as error:
            members.check(them, "probabilities")
        assert "\n" not in str(error.value)
    tested_on_val = [
        dataclasses.replace(each, tested_on="val") for each in (first, second)
    ]
    members.check(tested_on_val, "vote")
    with pytest.raises(
        UserError, match="or tested on the validation images that stack"
    ):
        members.check(tested_on_val, "stacking")


def test_members_are_finished_runs_that_stay_as_they_are(made, runs, tmp_path):
    with pytest.raises(UserError, match="is an ensemble. Name its members"):
        members.load(made)
    with pytest.raises(UserError, match="is a file: name the folder"):
        members.load(runs[0] / "weights.safetensors")
    for source in (made, *runs):
        shutil.copytree(source, tmp_path / source.parent.name / source.name)
    copy = tmp_path / made.parent.name / made.name
    assert load_run(copy).parameters_sha256 == load_run(made).parameters_sha256
    mine = tmp_path / runs[0].parent.name / runs[0].name
    shutil.rmtree(mine)
    shutil.copytree(runs[1], mine)
    with pytest.raises(
        UserError, match="has changed since .*ensemble.json was written"
    ):
        load_run(copy)
    (mine / "results.json").unlink()
    with pytest.raises(
        UserError, match="ensemble.json names another run: .*is not finished"
    ):
        load_run(copy)
    stored = json.loads((copy / "ensemble.json").read_text())
    stored["members"][0]["path"] = "."
    (copy / "ensemble.json").write_text(json.dumps(stored))
    with pytest.raises(UserError, match="names another run: .* is an ensemble"):
        load_run(copy)


def test_logits_are_stored_or_computed_for_the_images_of_the_data(runs, tmp_path):
    dataset = data.load(load.load(runs[0]).data)
    folder = shutil.copytree(runs[0], tmp_path / "run")
    member = members.load(folder)
    stored = members.logits(member, dataset)
    (folder / "predictions.npz").unlink()
    for found, expected in zip(members.logits(member, dataset), stored, strict=True):
        np.testing.assert_array_equal(found, expected)
    other = dataclasses.replace(dataset, test=dataset.val)
    with pytest.raises(UserError, match="was tested on other images than the data"):
        members.logits(member, other)


def test_a_config_without_data_is_damaged(all_made, tmp_path):
    folder = shutil.copytree(all_made["vote"], all_made["vote"].parent / "damaged")
    (folder / "config.json").write_text("{}")
    with pytest.raises(UserError, match="config.json is damaged: data is missing"):
        export.write(load_run(folder), tmp_path / "x.html", format="html")


def test_a_kind_that_is_not_known_is_refused(made, tmp_path):
    results = json.loads((made / "results.json").read_text())
    (tmp_path / "results.json").write_text(json.dumps(results | {"kind": "oracle"}))
    with pytest.raises(UserError, match="kind 'oracle'.*known: network, ensemble"):
        combine.load(tmp_path)
