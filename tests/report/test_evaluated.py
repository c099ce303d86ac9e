"""The picture and the tables of an evaluation, of any number of classes."""

import json
import re

import numpy as np
import pytest

from mnist_jax.data.corruptions import CORRUPTIONS
from mnist_jax.evaluation import calibration, evaluate, scores
from mnist_jax.report import evaluated
from mnist_jax.report.evaluated import figures
from tests.support.made_runs import tables_of


@pytest.fixture(params=[3, 62])
def entries(request):
    count = request.param
    labels = np.arange(300) % count
    found = []
    for seed, name in enumerate(
        ["lenet5 (seed 0)", "a <b>name</b> | without end " * 3]
    ):
        noise = 3 * np.random.default_rng(seed).normal(size=(300, count))
        logits = 9 * np.eye(count)[labels] + noise
        damage = {kind: [0.9, 0.8, 0.7, 0.6, 0.1 * seed] for kind in CORRUPTIONS}
        found.append(
            {
                "name": name,
                "evaluation": evaluate(
                    logits, labels, [f"class {k}" for k in range(count)]
                ),
                "calibration": calibration.assess(logits, labels, (logits, labels)),
                "augmented": scores.proportion(labels > 0),
                "robustness": {"examples": 300, "accuracy": damage},
            }
        )
    return found


def test_the_picture_is_readable(entries, assert_readable):
    texts = assert_readable(figures.reliability(entries), at_least=8)
    assert sum("with temperature" in text for text in texts) == 2
    # Without a temperature there is nothing to draw on the right.
    scaled = dict.fromkeys(("temperature", "loss_scaled", "ece_scaled", "bins_scaled"))
    entries[0]["calibration"] |= scaled
    texts = assert_readable(figures.reliability(entries[:1]), at_least=4)
    assert not any("with temperature" in text for text in texts)
    assert evaluated.accuracies(entries[:1]).rows[-1] == ["ECE with it", "-"]


def test_the_page_has_the_numbers_of_the_entries(entries, tmp_path):
    found = evaluated.Evaluation("test images of <b>", entries, ["A | note."])
    evaluated.write(found, tmp_path)
    page = (tmp_path / "evaluation.md").read_text()
    drawn = {path.name for path in tmp_path.glob("*.png")}
    assert set(re.findall(r"\]\((.*?)\)", page)) == drawn and len(drawn) == 1
    figures_, damage = tables_of(page)
    for entry, column in zip(entries, list(figures_[0])[1:], strict=True):
        found = entry["evaluation"]
        wrong = found["examples"] - np.trace(found["confusion"])
        assert figures_[0][column].startswith(f"{found['accuracy']:.4f} (")
        assert figures_[1][column] == f"{wrong} of 300"
    assert len(damage) == 2 * len(CORRUPTIONS) + 2
    assert [damage[1][k] for k in ("1", "5", "Mean")] == ["0.9000", "0.1000", "0.6200"]
    assert json.loads((tmp_path / "evaluation.json").read_text())["runs"] == entries
