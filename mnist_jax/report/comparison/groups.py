"""Runs put together by their configs, and what they come to."""

import functools
import json
import re
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from mnist_jax.report.comparison.runs import Fields, Run, is_below, is_number


class Statistics(NamedTuple):
    """What a list of figures comes to."""

    mean: float
    sd: float | None
    """Of the sample (n - 1); None for a single figure."""
    n: int
    worst: float
    best: float


@dataclass(frozen=True)
class Group:
    """The runs of one config, which differ in their seeds."""

    runs: tuple[Run, ...]
    """Ascending in seed; at least one."""
    differences: tuple[str, ...]
    """Fields in which this config differs from others of its name: field=value."""

    @property
    def first(self) -> Run:
        """Any of the runs, for what they have in common."""
        return self.runs[0]

    @property
    def weights(self) -> str:
        """Whose accuracy counts, as the config said: "last" or "best"."""
        return self.first.results["test_weights"]

    @property
    def other_weights(self) -> str:
        """Those that do not count, which were tested beside."""
        return "best" if self.weights == "last" else "last"

    @functools.cached_property
    def accuracy(self) -> Statistics:
        """The test accuracy over the seeds."""
        return summarize([run.results["test_accuracy"] for run in self.runs])

    @property
    def other_accuracy(self) -> Statistics | None:
        """The test accuracy with the other weights, if all runs have it."""
        found = [run.accuracy("test", self.other_weights) for run in self.runs]
        values = [value for value in found if value is not None]
        return summarize(values) if len(values) == len(found) else None

    @property
    def report_accuracy(self) -> float | None:
        """What the report gives for this network, if it gives a figure."""
        values = [run.config.get("report_accuracy") for run in self.runs]
        return next((value for value in values if is_number(value) and value), None)

    def texts(self, name: str) -> list[str]:
        """Return the different values of a field of results.json, in order."""
        values = [run.results.get(name) for run in self.runs]
        return _unique(str(value) for value in values if value is not None)

    def numbers(self, name: str) -> list[float]:
        """Return a field of results.json, of the runs that have it as a number."""
        values = [run.number(name) for run in self.runs]
        return [value for value in values if value is not None]

    @property
    def mean_seconds(self) -> float | None:
        """The mean time that the training took, of the runs that say it."""
        seconds = self.numbers("train_seconds")
        return statistics.mean(seconds) if seconds else None

    @property
    def model(self) -> str:
        """The name of the architecture."""
        return ", ".join(self.texts("model"))

    @property
    def hardware(self) -> list[str]:
        """What the runs ran on, different ones once each."""
        return _unique(run.hardware for run in self.runs if run.hardware)


class Comparison(NamedTuple):
    """What was found in some folders."""

    groups: list[Group]
    """In the order in which the first run of each was found."""
    notes: list[str]
    """What a reader of the table must know, a sentence each."""


def group(runs: Sequence[Run]) -> Comparison:
    """Put runs together whose configs are the same but for the seed.

    The same run found twice counts once. A seed whose two runs differ counts twice, and
    a note says so.
    """
    notes = []
    by_config: dict[str, list[Run]] = {}
    for run in runs:
        key = json.dumps(run.experiment, sort_keys=True)
        there = by_config.setdefault(key, [])
        twins = [other for other in there if other.seed == run.seed]
        twin = next((other for other in twins if run.same_result(other)), None)
        if twin:
            notes.append(
                f"{run.name}, seed {run.seed}: {twin.folder} and {run.folder} hold the "
                "same result, counted once."
            )
            continue
        if twins:
            notes.append(
                f"{run.name}, seed {run.seed}: {twins[0].folder} and {run.folder} hold "
                "different results of the same config, both counted."
            )
        there.append(run)
    groups = list(by_config.values())
    named = [_differences(members[0], groups) for members in groups]
    return Comparison(
        [
            Group(tuple(sorted(members, key=lambda run: run.seed)), tuple(differences))
            for members, differences in zip(groups, named, strict=True)
        ],
        notes,
    )


def summarize(values: Sequence[float]) -> Statistics:
    """Return mean, sample standard deviation, number, least and largest."""
    values = [float(value) for value in values]
    return Statistics(
        mean=statistics.mean(values),
        sd=statistics.stdev(values) if len(values) > 1 else None,
        n=len(values),
        worst=min(values),
        best=max(values),
    )


def _differences(run: Run, groups: Sequence[Sequence[Run]]) -> list[str]:
    """Name the fields in which a run's config differs from others of its name."""
    namesakes = [
        members[0].experiment for members in groups if members[0].name == run.name
    ]
    own = run.experiment
    differing = [
        name
        for name in dict.fromkeys(name for fields in namesakes for name in fields)
        if any(fields.get(name, ...) != own.get(name, ...) for fields in namesakes)
        # Nothing but what is within it, which is among the names too.
        and (name in own or not any(is_below(field, (name,)) for field in own))
    ]
    return _unique(
        f"{name}={_typed(own[name])}" if name in own else f"no {_missing(name, own)}"
        for name in differing
    )


def _typed(value: Any) -> str:
    """Return a field's value as one would type it in a flag."""
    return value if isinstance(value, str) else json.dumps(value)


def _missing(name: str, fields: Fields) -> str:
    """Return the outermost part of a dotted name that is not among the fields."""
    ends = [match.start() for match in re.finditer(r"[.\[]", name)] + [len(name)]
    return next(
        name[:end]
        for end in ends
        if not any(is_below(field, (name[:end],)) for field in fields)
    )


def _unique(values: Iterable[str]) -> list[str]:
    """Return the different values, in the order of their first appearance."""
    return list(dict.fromkeys(values))
