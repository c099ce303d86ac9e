"""evaluate() agrees with SciPy and scikit-learn, and refuses what it cannot judge."""

import json
import math
from typing import Any

import numpy as np
import pytest
import scipy.stats
import sklearn.metrics
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from mnist_jax import evaluation

finite_logits = st.floats(-(2.0**100), 2.0**100, width=32)


@st.composite
def logits_and_labels(draw, elements=finite_logits):
    n, classes = draw(st.integers(1, 40)), draw(st.sampled_from([2, 3, 10, 62]))
    logits = draw(npst.arrays(np.float32, (n, classes), elements=elements))
    dtype = draw(st.sampled_from([np.uint8, np.int32, np.int64]))
    labels = draw(npst.arrays(dtype, n, elements=st.integers(0, classes - 1)))
    return logits, labels


# Few different values, so that most rows have ties.
ties = logits_and_labels(st.sampled_from([-1.0, 0.0, 1.0]))


@settings(deadline=None)
@given(logits_and_labels() | ties)
def test_equals_scikit_learn(example):
    logits, labels = example
    classes = range(logits.shape[1])
    names = [f"class {k} & <more>" for k in classes]
    result = evaluation.evaluate(logits, labels, names)
    predicted = np.array([list(row).index(row.max()) for row in logits])  # First wins.
    confusion = sklearn.metrics.confusion_matrix(labels, predicted, labels=classes)
    assert result["confusion"] == confusion.tolist()
    assert result["accuracy"] == sklearn.metrics.accuracy_score(labels, predicted)
    undefined: Any = np.nan
    theirs: Any = sklearn.metrics.precision_recall_fscore_support(
        labels, predicted, labels=classes, zero_division=undefined
    )
    for name, ours, *scores in zip(names, result["per_class"], *theirs, strict=True):
        expected = dict(
            zip(("precision", "recall", "f1", "support"), scores, strict=True)
        )
        assert ours.pop("class") == name
        found = {key: np.nan if v is None else v for key, v in ours.items()}
        assert found == pytest.approx(expected, nan_ok=True)


@settings(deadline=None)
@given(logits_and_labels(st.floats(-12, 12, width=32)))  # log_loss clips beyond 36.
def test_loss_equals_scikit_learn(example):
    logits, labels = example
    probabilities = scipy.special.softmax(logits.astype(np.float64), axis=1)
    expected = sklearn.metrics.log_loss(
        labels, probabilities, labels=range(logits.shape[1])
    )
    assert evaluation.evaluate(logits, labels)["loss"] == pytest.approx(expected)


@settings(deadline=None)
@given(logits_and_labels())
def test_result_is_strict_json_and_consistent(example):
    logits, labels = example
    result = evaluation.evaluate(logits, labels)
    assert json.loads(json.dumps(result, allow_nan=False)) == result
    low, high = result["accuracy_interval"]
    assert 0 <= low <= result["accuracy"] <= high <= 1
    assert result["loss"] >= 0
    assert result["examples"] == len(labels) == np.sum(result["confusion"])


def test_loss_does_not_overflow_or_lose_small_values():
    logits = np.zeros((2, 10), np.float32)
    logits[0, 3], logits[1, 4] = 1e30, 30.0
    result = evaluation.evaluate(logits, np.array([3, 4]))
    assert result["loss"] == pytest.approx(math.log1p(9 * math.exp(-30)) / 2)
    assert evaluation.evaluate(logits, np.array([0, 4]))["loss"] == pytest.approx(5e29)


@pytest.mark.parametrize("n", [1, 2, 7, 10])
def test_halves(n):
    labels = np.arange(n) % 10
    logits = np.eye(10, dtype=np.float32)[labels]
    logits[: n // 2] = np.roll(logits[: n // 2], 1, axis=1)  # All wrong.
    result = evaluation.evaluate(logits, labels)
    assert result["accuracy_first_half"] == (None if n == 1 else 0.0)
    assert result["accuracy_second_half"] == 1.0
    assert result["accuracy"] == (n - n // 2) / n


@settings(deadline=None)
@given(
    st.integers(1, 70_000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))
)
def test_interval_equals_scipy(pair):
    correct, examples = pair
    theirs = scipy.stats.binomtest(correct, examples).proportion_ci(method="wilson")
    ours = evaluation.wilson_interval(correct, examples)
    np.testing.assert_allclose(ours, (theirs.low, theirs.high), rtol=1e-9, atol=1e-12)


@settings(deadline=None)
@given(logits_and_labels(st.floats(-5, 5, width=16)) | ties)
def test_mistakes_are_all_and_in_order(example):
    logits, labels = example
    found = evaluation.most_confident_mistakes(logits, labels)
    softmax = scipy.special.softmax(logits.astype(np.float64), axis=1)
    wrong = [i for i in range(len(labels)) if logits[i].argmax() != labels[i]]
    assert sorted(found.indices) == wrong
    assert list(found.predicted) == [logits[i].argmax() for i in found.indices]
    np.testing.assert_allclose(found.confidence, softmax[found.indices].max(axis=1))
    assert all(np.diff(found.confidence) <= 0)
    for one, two in zip(found.indices, found.indices[1:], strict=False):
        assert one < two or not np.array_equal(logits[one], logits[two])


GOOD_LOGITS, GOOD_LABELS = np.zeros((3, 10), np.float32), np.zeros(3, np.uint8)


@pytest.mark.parametrize(
    ("logits", "labels", "message"),
    [
        (np.zeros(10, np.float32), GOOD_LABELS, r"got \[10\] and \[3\]"),
        (GOOD_LOGITS, np.zeros((3, 1), np.uint8), r"got \[3, 10\] and \[3, 1\]"),
        (GOOD_LOGITS[:0], GOOD_LABELS[:0], r"got \[0, 10\] and \[0\]"),
        (GOOD_LOGITS, np.zeros(3, np.float32), r"integers in 0\.\.9"),
        (GOOD_LOGITS, np.array([0, 1, 10]), r"integers in 0\.\.9"),
        (GOOD_LOGITS, np.array([0, -1, 1]), r"integers in 0\.\.9"),
        (GOOD_LOGITS + [[0], [np.nan], [np.inf]], GOOD_LABELS, "must be finite"),
    ],
)
def test_bad_input_is_refused(logits, labels, message):
    for function in (evaluation.evaluate, evaluation.most_confident_mistakes):
        with pytest.raises(ValueError, match=message):
            function(logits, labels)


def test_classes_must_be_as_many_as_logits():
    with pytest.raises(ValueError, match="10 logits of each example but 2 classes"):
        evaluation.evaluate(GOOD_LOGITS, GOOD_LABELS, ["a", "b"])
