"""The tests give SciPy's numbers."""

import itertools
from typing import Any

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from mnist_jax.evaluation import significance

# Accuracies: counts of 10,000 images.
accuracies = st.lists(st.integers(9800, 10_000), min_size=2, max_size=8)


# SciPy's, where one side does not vary.
@pytest.mark.filterwarnings("ignore:Precision loss occurred")
@settings(deadline=None)
@given(accuracies, accuracies)
def test_welch_equals_scipy(first, second):
    found = significance.welch(first, second)
    if len({*first}) == len({*second}) == 1:
        assert found is None
        return
    theirs: Any = scipy.stats.ttest_ind(first, second, equal_var=False)
    assert found is not None
    assert found.mean == pytest.approx(np.mean(first) - np.mean(second))
    assert found.p == pytest.approx(theirs.pvalue, rel=1e-6)
    assert found.interval == pytest.approx(tuple(theirs.confidence_interval(0.95)))


@settings(deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=200))
def test_mcnemar_equals_the_binomial_test(answers):
    first, second = np.array(answers).T
    found = significance.mcnemar(first, second)
    table: Any = scipy.stats.contingency.crosstab(
        first, second, levels=([True, False], [True, False])
    ).count
    assert (found.only_first, found.only_second) == (table[0, 1], table[1, 0])
    different = found.only_first + found.only_second
    expected = 1.0
    if different:
        expected = scipy.stats.binomtest(found.only_first, different).pvalue
    assert found.p == pytest.approx(expected)


@settings(deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=6))
def test_holm_is_the_closed_test_of_bonferroni(p_values):
    """A hypothesis falls if each set of hypotheses that it is in does."""
    expected = []
    for place in range(len(p_values)):
        others = [p for k, p in enumerate(p_values) if k != place]
        sets = itertools.chain.from_iterable(
            itertools.combinations(others, size) for size in range(len(p_values))
        )
        worst = max((len(s) + 1) * min([*s, p_values[place]]) for s in sets)
        expected.append(min(1, worst))
    assert significance.holm(p_values) == pytest.approx(expected)
