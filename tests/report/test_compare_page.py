"""The page of a comparison: the networks' predictions, image by image."""

import json
import re
import shutil
from html import unescape

import numpy as np
import pytest
import scipy.stats

from mnist_jax import config as configs
from mnist_jax import data
from mnist_jax.report import compare
from mnist_jax.report.compare import figures, page
from mnist_jax.runs import predictions
from mnist_jax.runs.predictions import Predictions
from tests.support.made_runs import write_run

NAMES = ("lenet5", "lenet5-tuned", "wide")


@pytest.fixture(scope="module")
def labels():
    return data.load(configs.Data(source="digits", val_size=200)).test.labels


@pytest.fixture(scope="module")
def runs(labels, tmp_path_factory):
    """Three experiments with two seeds each, on the embedded digits."""
    folder = tmp_path_factory.mktemp("runs")
    rng = np.random.default_rng(0)
    for name in NAMES:
        for seed in range(2):
            run = write_run(
                folder / name / f"seed{seed}",
                accuracy=0.9 + seed / 100,
                seed=seed,
                config={"name": name, "data.source": "digits", "data.val_size": 200},
                data="digits",
                model=name.partition("-")[0],
            )
            logits = 4 * np.eye(10)[labels] + rng.normal(size=(len(labels), 10))
            # Of "best" weights, which do not count, all would be wrong.
            made = Predictions(labels, {"last": logits, "best": -logits}, "a")
            predictions.write(run / "predictions.npz", made, made)
    return folder


def test_the_page_has_everything_and_needs_nothing_else(
    runs, tmp_path, assert_readable
):
    found = compare.read([runs])
    page.write(found, tmp_path)
    markdown = (tmp_path / "comparison.md").read_text()
    pictures = re.findall(r"!\[.*?\]\((.*?)\)", markdown)
    drawn = ["accuracy"]
    assert pictures == [f"figures/{name}.png" for name in drawn]
    assert all((tmp_path / name).exists() for name in pictures)
    whole = (tmp_path / "comparison.html").read_text()
    assert whole.count('src="data:image/png;base64,') == 1
    assert "<table>" in whole and ".png" not in whole
    titles = re.findall("^## (.*)", markdown, re.M)
    assert titles == [unescape(each) for each in re.findall("<h2>(.*)</h2>", whole)]
    assert not re.search(r'(src|href)="(?!data:)', whole)
    assert_readable(figures.accuracy(found.groups), at_least=8)


def test_mcnemars_test(runs):
    found, notes = page.read_answers(compare.read([runs]))
    assert len(found) == 3 and not notes
    by_name = {one.name: one for one in found}
    rows = page.mcnemar(found).rows
    assert [row[:2] for row in rows][0] == ["lenet5-tuned, seed 0", "lenet5, seed 0"]
    for a, b, only_a, only_b, p in rows:
        right = [by_name[name].right for name in (a, b)]
        counts = (right[0] & ~right[1]).sum(), (right[1] & ~right[0]).sum()
        assert (int(only_a), int(only_b)) == counts
        plain = scipy.stats.binomtest(int(counts[0]), int(sum(counts))).pvalue
        assert plain <= float(p.strip("< ")) + 0.01 <= min(1, 2 * plain) + 0.02


@pytest.mark.parametrize("order", [1, -1])
@pytest.mark.parametrize(
    ("digests", "kept"),
    [
        (("a", "a", "b"), (0, 1)),
        (("b", "a", "b"), (0, 2)),
    ],
)
def test_networks_are_compared_on_the_same_images_alone(
    runs, tmp_path, digests, kept, order
):
    for name, digest in zip(NAMES, digests, strict=True):
        folder = shutil.copytree(runs / name / "seed0", tmp_path / name)
        results = json.loads((folder / "results.json").read_text())
        changed = json.dumps(results | {"test_images_sha256": digest})
        (folder / "results.json").write_text(changed)
    comparison = compare.read([tmp_path / name for name in NAMES[::order]])
    found, notes = page.read_answers(comparison)
    assert sorted(NAMES.index(one.group.first.name) for one in found) == list(kept)
    assert "other images" in notes[0]


def test_published_runs_have_a_page_too(runs, tmp_path):
    for path in runs.glob("*/seed[01]/*.json"):
        target = tmp_path / "published" / path.relative_to(runs)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)
    page.write(compare.read([tmp_path / "published"]), tmp_path / "page")
    markdown = (tmp_path / "page" / "comparison.md").read_text()
    assert "needs predictions.npz of two" in markdown
    assert "Without predictions.npz, hence not here: lenet5, " in markdown
