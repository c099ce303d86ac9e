"""The published tables say what the published runs say."""

import json
import os

import pytest

import mnist_jax
from configs import lenet5
from mnist_jax import data, experiment
from mnist_jax.config import Data, to_json
from mnist_jax.report import compare
from mnist_jax.report.compare import publish
from tests.conftest import ROOT
from tests.support.made_runs import write_run


@pytest.mark.parametrize("document", ["README.md", "docs/results.md"])
def test_documents_hold_the_tables_of_the_published_runs(document, tmp_path):
    """If this fails: `make results`."""
    copy = tmp_path / "copy.md"
    copy.write_text((ROOT / document).read_text())
    publish.insert(compare.read([ROOT / "results"]), copy)
    assert (ROOT / document).read_text() == copy.read_text()


def test_published_runs_are_clean_and_lie_where_their_config_and_seed_say():
    found = compare.read([ROOT / "results"])
    for group in found.groups:
        for run in group.runs:
            place = ROOT / "results" / run.name / f"seed{run.seed}"
            assert run.folder.resolve() == place.resolve()
            # Made from a commit, not from what lay around at the time.
            assert not run.environment["git_commit"].endswith("-dirty")
            assert run.classes == data.SOURCES[run.results["data"]].classes
    assert found.groups and not found.notes  # all are finished, none is there twice
    tested = {(group.data, group.first.images) for group in found.groups}
    assert len(tested) == len(dict(tested))
    if "MNIST_DIR" in os.environ:
        _, test = data.read(Data(source="mnist"))
        assert dict(tested)["mnist"] == data.images_sha256(test.images)


def test_a_run_of_today_counts_with_the_published_ones(tmp_path):
    config = lenet5.get_config()
    config.seed = 99
    published = compare.read([ROOT / "results"]).groups[0].first.images
    folder = write_run(
        tmp_path / "run", accuracy=0.999, seed=99, test_images_sha256=published
    )
    stored = to_json(experiment.parse(config))
    (folder / "config.json").write_text(json.dumps(stored))
    found = compare.read([ROOT / "results", tmp_path])
    (group,) = (group for group in found.groups if group.first.name == "lenet5")
    assert {run.seed for run in group.runs} == {0, 1, 2, 3, 4, 99}
    assert group.accuracies[-1] == 0.999


PUBLISHED_WEIGHTS = sorted((ROOT / "results").glob("*/seed*/weights.safetensors"))


@pytest.mark.parametrize("path", PUBLISHED_WEIGHTS, ids=lambda p: p.parent.parent.name)
def test_published_weights_are_those_of_the_published_results(path):
    run = mnist_jax.load_run(path.parent)
    assert run.results is not None
    assert run.accuracy == run.results["test_accuracy"]


@pytest.mark.skipif("MNIST_DIR" not in os.environ, reason="MNIST_DIR names no folder")
def test_the_network_in_the_package_has_the_accuracy_that_it_says():
    run = mnist_jax.load_run()
    test = data.load(run.data).test
    right = (run.predict(test.images).argmax(axis=1) == test.labels).mean()
    # To an image, on another processor or without oneDNN.
    assert right == pytest.approx(run.accuracy, abs=1.5e-4)
