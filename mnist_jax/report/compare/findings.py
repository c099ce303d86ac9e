"""Which differences between experiments are larger than chance explains."""

import itertools
from collections.abc import Sequence
from typing import NamedTuple

from rich.console import Console

from mnist_jax.evaluation import significance
from mnist_jax.evaluation.significance import Difference
from mnist_jax.report.compare import tables
from mnist_jax.report.compare.groups import Comparison, Group
from mnist_jax.report.render import Table, count

_RESULTS = "Mean ± standard deviation over n seeds; all columns: --format=markdown."
EXPLANATION = (
    "A - B in percentage points; Welch's t test over seeds, p corrected by Holm."
)
_UNTESTED = "too few seeds"


class Finding(NamedTuple):
    """The comparison of two experiments, over their seeds."""

    first: Group
    second: Group
    difference: Difference | None
    """In points, hundredths of the accuracy, its p-value corrected for the number of
    pairs; None if either has fewer than two seeds, or if neither varies."""

    @property
    def verdict(self) -> str:
        """Which mean is higher, if the seeds separate them."""
        if self.difference is None:
            return _UNTESTED
        if self.difference.p >= significance.LEVEL:
            return "not separated"
        return "A is higher" if self.difference.mean > 0 else "B is higher"


def pairs(groups: Sequence[Group]) -> list[tuple[Group, Group]]:
    """Choose which experiments to compare.

    Every further pair weakens the test of all, so there are few: each recipe of a
    network with the network's plain recipe, the one with the fewest parts in its name;
    and each network's best recipe on the validation images with the next network's, in
    this order. Only experiments that were tested on the same images, and trained on as
    many, are paired. Neither the order of the groups nor any test accuracy has an
    influence.
    """
    # Variants are appended to a name: lenet5-tuned.
    groups = sorted(
        groups, key=lambda g: (g.first.name.count("-"), g.first.name, g.key)
    )
    chosen: dict[frozenset[str], tuple[Group, Group]] = {}
    tests: dict[str, dict[str, list[Group]]] = {}
    for group in groups:
        chapter = f"{group.first.images} {group.train_size}"
        networks = tests.setdefault(chapter, {})
        networks.setdefault(group.first.model, []).append(group)
    for networks in tests.values():
        best = [max(same, key=lambda g: g.val_accuracy) for same in networks.values()]
        best.sort(key=lambda group: group.val_accuracy, reverse=True)
        found = [(other, same[0]) for same in networks.values() for other in same[1:]]
        for a, b in [*found, *itertools.pairwise(best)]:
            chosen.setdefault(frozenset((a.key, b.key)), (a, b))
    return list(chosen.values())


def findings(groups: Sequence[Group]) -> list[Finding]:
    """Compare the experiments of `pairs` by Welch's t test over their seeds."""
    found = []
    for pair in pairs(groups):
        one, other = ([100 * each for each in group.accuracies] for group in pair)
        found.append((*pair, significance.welch(one, other)))
    p_values = [difference.p for *_, difference in found if difference]
    corrected = iter(significance.holm(p_values))
    return [
        Finding(a, b, one._replace(p=next(corrected)) if one else None)
        for a, b, one in found
    ]


def table(groups: Sequence[Group]) -> Table:
    """Return a table with a row for each finding."""
    rows = []
    for one in findings(groups):
        cells = [points(100 * (one.first.mean - one.second.mean)), "-", "-"]
        if one.difference:
            ends = map(points, one.difference.interval)
            cells[1:] = [" to ".join(ends), p_value(one.difference.p)]
        rows.append([one.first.label, one.second.label, *cells, one.verdict])
    header = ["A", "B", "A - B", "95 % interval", "p", "Verdict"]
    return Table(header, rows, ["left", "left", *["right"] * 3, "left"])


def show(found: Comparison, console: Console) -> None:
    """Print the table of results and the findings."""
    results = tables.results(found, narrow=console.width < 120)
    results.show(console, _RESULTS, *found.notes)
    content = table(found.groups)
    tested = [row for row in content.rows if row[-1] != _UNTESTED]
    if untested := len(content.rows) - len(tested):
        number = count(untested, "pair")
        console.print(f"Not tested, as one of two has a single seed: {number}.")
    if tested:
        console.print()
        content._replace(rows=tested).show(console, EXPLANATION)


def points(value: float) -> str:
    """Return hundredths of the accuracy to two decimals, without a negative zero."""
    return f"{round(value, 2) + 0.0:.2f}"


def p_value(p: float) -> str:
    """Return a p-value to two significant digits."""
    return f"{p:.2g}" if p >= 1e-3 else "< 0.001"
