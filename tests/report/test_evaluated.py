"""The pictures and tables of an evaluation can be read."""

import numpy as np
import pytest

from mnist_jax.data.corruptions import CORRUPTIONS
from mnist_jax.evaluation import calibration, evaluate, scores
from mnist_jax.report.evaluated import figures, page


@pytest.fixture
def entries(make_logits):
    labels = np.arange(300) % 10
    found = []
    for seed, name in enumerate(["lenet5 (seed 0)", "a name that has no end " * 3]):
        logits = make_logits(labels, seed=seed, noise=3.0)
        entry = {
            "evaluation": evaluate(logits, labels),
            "calibration": calibration.assess(logits, labels, (logits, labels)),
            "without_doubtful_labels": scores.proportion(labels > 0),
        }
        damage = {
            kind: {"accuracy": [0.9, 0.8, 0.7, 0.6, 0.1 * seed]} for kind in CORRUPTIONS
        }
        robustness = {"examples": 300, "seed": 0, "accuracy": 0.95}
        robustness |= {"corruptions": damage, "mean_corrupted_accuracy": 0.6}
        found.append({"name": name, "robustness": robustness} | entry)
    return found


def test_the_pictures_can_be_read(entries, small, assert_readable):
    texts = assert_readable(figures.robustness(entries), at_least=9)
    assert set(CORRUPTIONS) < set(texts) and "lenet5 (seed 0)" in texts
    texts = assert_readable(figures.corruptions(small.test.images), at_least=9)
    assert set(CORRUPTIONS) < set(texts)
    texts = assert_readable(figures.reliability(entries), at_least=8)
    assert sum("with temperature" in text for text in texts) == 2
    # Without a temperature there is nothing to draw on the right.
    scaled = dict.fromkeys(("loss_scaled", "ece_scaled", "bins_scaled"))
    entries[0]["calibration"] |= {"temperature": None} | scaled
    texts = assert_readable(figures.reliability(entries[:1]), at_least=4)
    assert not any("with temperature" in text for text in texts)
    assert "-" in page.accuracies(entries[:1]).rows[-1]


def test_lines_can_be_told_apart():
    styles = figures.line_styles(21)
    assert len({(one["color"], one["linestyle"]) for one in styles}) == 21


def test_the_table_has_a_row_for_each_kind_and_network(entries):
    table = page.robustness(entries)
    assert len(table.rows) == 2 * len(CORRUPTIONS) + 2
    assert table.rows[1][1:] == [
        entries[1]["name"],
        *("0.9000", "0.8000", "0.7000", "0.6000", "0.1000"),
        "0.6200",
    ]
    assert len(page.robustness(entries[:1]).header) == 7
