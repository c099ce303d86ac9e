"""Temperature and calibration error equal their definitions."""

from typing import Any

import numpy as np
import pytest
from scipy import optimize

from mnist_jax.evaluation import calibration


@pytest.fixture(scope="module")
def logits_and_labels():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 10, 400)
    logits = 3 * np.eye(10)[labels] + 2 * rng.normal(size=(400, 10))
    return logits.astype(np.float32), labels


@pytest.mark.parametrize("scale", [0.2, 1, 7])
def test_the_temperature_minimises_the_loss(logits_and_labels, scale):
    logits, labels = logits_and_labels
    logits = scale * logits
    found = calibration.temperature(logits, labels)
    assert found is not None
    theirs: Any = optimize.minimize(
        lambda log: calibration.loss(logits, labels, np.exp(log[0])), x0=[0.0]
    )
    assert found == pytest.approx(np.exp(theirs.x[0]), rel=1e-4)
    above, below = (
        calibration.loss(logits, labels, found * factor) for factor in (1.001, 0.999)
    )
    assert abs(above - below) < 1e-6  # where its derivative is zero
    # Logits that are twice as large need twice the temperature.
    assert calibration.temperature(2 * logits, labels) == pytest.approx(2 * found)


def test_without_a_minimum_there_is_no_temperature(logits_and_labels):
    logits, labels = logits_and_labels
    assert calibration.temperature(np.eye(10)[labels], labels) is None
    assert calibration.temperature(-np.eye(10)[labels], labels) is None
    assert calibration.temperature(np.zeros((3, 10)), labels[:3]) is None


def test_the_calibration_error_equals_a_direct_computation(logits_and_labels):
    logits, labels = logits_and_labels
    bins = calibration.reliability(logits, labels)
    odds = np.exp(logits.astype(float))
    probabilities = odds / odds.sum(axis=1, keepdims=True)
    total, counts = 0.0, []
    for low in range(calibration.BINS):
        inside = [
            (row.max(), row.argmax() == label)
            for row, label in zip(probabilities, labels, strict=True)
            if low < row.max() * calibration.BINS <= low + 1
        ]
        counts.append(len(inside))
        if inside:
            mean, right = np.mean(inside, axis=0)
            total += len(inside) * abs(mean - right)
    assert [one["count"] for one in bins] == counts
    assert calibration.error(bins) == pytest.approx(total / len(labels))


def test_a_temperature_changes_no_prediction(logits_and_labels):
    logits, labels = logits_and_labels
    held = logits[200:], labels[200:]
    found = calibration.assess(logits[:200], labels[:200], held)
    assert found["temperature"] == calibration.temperature(*held)
    assert found["loss_scaled"] < found["loss"] and found["ece_scaled"] < found["ece"]
    right = [
        sum(one["count"] * one.get("accuracy", 0) for one in found[name])
        for name in ("bins", "bins_scaled")
    ]
    assert right[0] == pytest.approx(right[1])
    assert calibration.assess(logits, labels)["temperature"] is None
