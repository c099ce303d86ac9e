"""Which differences between experiments their seeds bear out, and which may be luck."""

from collections.abc import Sequence
from typing import NamedTuple

from mnist_jax.evaluation import significance
from mnist_jax.evaluation.significance import Difference
from mnist_jax.report import tables
from mnist_jax.report.comparison.columns import labels
from mnist_jax.report.comparison.groups import Group


class Finding(NamedTuple):
    """What the seeds say about two experiments."""

    higher: str
    """The one whose mean is not the lower one."""
    lower: str
    seeds: tuple[int, int]
    gap: float
    """The difference of the means, in points: hundredths of the accuracy."""
    difference: Difference | None
    """None if it takes more seeds. Its p-value is corrected for the number of pairs."""

    @property
    def separated(self) -> bool:
        """Whether the seeds bear the difference out."""
        return self.difference is not None and self.difference.p < significance.LEVEL


def pairs(groups: Sequence[Group]) -> list[tuple[int, int]]:
    """Choose which experiments to compare, by their places.

    Every further pair weakens the test of all, so there are few: the first experiment
    of each network with each of its others; and each network's best one, by validation
    accuracy, with the next network's, in the order of their means. Only experiments
    that were tested on the same images are paired.
    """
    chosen: dict[tuple[int, int], None] = {}
    tests: dict[tuple[str, ...], dict[str, list[int]]] = {}
    for place, group in enumerate(groups):
        where = (*group.data, group.tested_on)
        tests.setdefault(where, {}).setdefault(group.model, []).append(place)
    for networks in tests.values():
        for first, *others in networks.values():
            chosen |= dict.fromkeys((first, other) for other in others)
        best = [max(same, key=lambda p: _val(groups[p])) for same in networks.values()]
        best.sort(key=lambda place: -groups[place].accuracy.mean)
        chosen |= dict.fromkeys(zip(best, best[1:], strict=False))
    return list(chosen)


def findings(groups: Sequence[Group]) -> list[Finding]:
    """Compare the experiments of `pairs` by Welch's t test over their seeds."""
    names = [str(label) for label in labels(groups)[0]]
    found = []
    for pair in pairs(groups):
        high, low = sorted(pair, key=lambda place: -groups[place].accuracy.mean)
        one, other = (
            [100 * run.results["test_accuracy"] for run in groups[place].runs]
            for place in (high, low)
        )
        gap = 100 * (groups[high].accuracy.mean - groups[low].accuracy.mean)
        difference = significance.welch(one, other)
        seeds = len(one), len(other)
        found.append(Finding(names[high], names[low], seeds, gap, difference))
    corrected = iter(
        significance.holm([one.difference.p for one in found if one.difference])
    )
    return [
        one._replace(difference=one.difference._replace(p=next(corrected)))
        if one.difference
        else one
        for one in found
    ]


def sentences(groups: Sequence[Group]) -> list[str]:
    """State for each pair whether its seeds separate it, and by which test."""
    found = findings(groups)
    lines = [_sentence(one) for one in found if one.difference]
    tested = len(lines)
    if untested := [one for one in found if not one.difference]:
        which = "; ".join(f"{one.higher} and {one.lower}" for one in untested)
        lines.append(
            f"Not to be separated, for want of two seeds that differ in each: {which}."
        )
    if tested:
        correction = f", p-values corrected for {tested} pairs (Holm)"
        lines.append(
            "Points are hundredths of the accuracy, intervals of 95 %, by Welch's t "
            f"test over seeds{correction if tested > 1 else ''}."
        )
    return lines


def table(groups: Sequence[Group]) -> str:
    """Return the findings as a Markdown table."""
    rows = []
    for one in findings(groups):
        seeds = " and ".join(map(str, one.seeds))
        cells = ["-", "-", "cannot say"]
        if one.difference:
            verdict = "yes" if one.separated else "no"
            cells = [_interval(one.difference), p_value(one.difference.p), verdict]
        rows.append([one.higher, one.lower, seeds, f"{one.gap:.2f}", *cells])
    header = ["Higher mean", "Lower mean", "Seeds", "Points"]
    header += ["95 % interval", "p", "Separated"]
    align = ["left", "left"] + ["right"] * 4 + ["left"]
    return tables.markdown_table(header, rows, align)


def p_value(p: float) -> str:
    """Return a p-value to two digits that count."""
    return f"{p:.2g}" if p >= 1e-3 else "< 0.001"


def _sentence(one: Finding) -> str:
    assert one.difference is not None
    seeds = f"{one.seeds[0]} and {one.seeds[1]} seeds"
    p = p_value(one.difference.p)
    p = f"p {p}" if p.startswith("<") else f"p = {p}"
    figures = f"{one.gap:.2f} points ({_interval(one.difference)}, {p})"
    if one.separated:
        return f"{one.higher} is above {one.lower} by {figures}: {seeds} separate them."
    return f"{one.higher} and {one.lower} are not separated by {seeds}: {figures}."


def _interval(difference: Difference) -> str:
    low, high = (round(bound, 2) + 0.0 for bound in difference.interval)  # no -0.00
    return f"{low:.2f} to {high:.2f}"


def _val(group: Group) -> float:
    """Return the mean validation accuracy; experiments that do not say it come last."""
    values = [run.accuracy("val", group.weights) for run in group.runs]
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else -1.0
