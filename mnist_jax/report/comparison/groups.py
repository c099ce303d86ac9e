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
    """The runs of one experiment, one for each seed."""

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
        """The accuracy on the images of `tested_on`, over the seeds."""
        return summarize([run.results["test_accuracy"] for run in self.runs])

    @property
    def other_accuracy(self) -> Statistics | None:
        """The accuracy with the other weights, if all runs have it."""
        found = [run.accuracy("test", self.other_weights) for run in self.runs]
        values = [value for value in found if value is not None]
        return summarize(values) if len(values) == len(found) else None

    @property
    def report_accuracy(self) -> float | None:
        """The report's accuracy for this network; None if there is none to compare.

        The report gives test accuracies, which a run that was tested on its validation
        images has nothing to set beside.
        """
        if self.tested_on == "val":
            return None
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
    def data(self) -> list[str]:
        """The data sets of the runs, each once."""
        return _unique(run.data for run in self.runs if run.data)

    @property
    def tested_on(self) -> str:
        """Which images the runs were tested on: "test" or "val"."""
        return self.first.tested_on

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
    """Group runs by their experiment, counting each seed once.

    Of several runs of a seed the first counts. A note lists them.
    """
    by_experiment: dict[str, dict[int, list[Run]]] = {}
    for run in runs:
        key = json.dumps(run.experiment, sort_keys=True)
        by_experiment.setdefault(key, {}).setdefault(run.seed, []).append(run)
    groups = [[same[0] for same in by.values()] for by in by_experiment.values()]
    named = [_differences(members[0], groups) for members in groups]
    return Comparison(
        [
            Group(tuple(sorted(members, key=lambda run: run.seed)), tuple(differences))
            for members, differences in zip(groups, named, strict=True)
        ],
        _repetitions([same for by in by_experiment.values() for same in by.values()]),
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


def _repetitions(seeds: Sequence[Sequence[Run]]) -> list[str]:
    """Say which seeds have several runs, and whether their results agree.

    Args:
        seeds: the runs of each seed of each experiment.
    """
    agreeing, differing = [], []
    for runs in seeds:
        same = all(run.same_result(runs[0]) for run in runs)
        found = ", ".join(
            f"{run.results['test_accuracy']:.4f} in {run.folder}" for run in runs
        )
        if len(runs) > 1:
            (agreeing if same else differing).append(
                f"{runs[0].name} seed {runs[0].seed} ({found})"
            )
    notes = {
        "Counted once, since the results are the same": agreeing,
        "Counted once, by the first of several results": differing,
    }
    return [f"{why}: {'; '.join(which)}." for why, which in notes.items() if which]


def _differences(run: Run, groups: Sequence[Sequence[Run]]) -> list[str]:
    """Name the fields in which a run's config differs from others of its name.

    Which images a run was tested on is not among them: see `Group.tested_on`.
    """
    namesakes = [
        members[0].experiment for members in groups if members[0].name == run.name
    ]
    own = run.experiment
    differing = [
        name
        for name in dict.fromkeys(name for fields in namesakes for name in fields)
        if name != "data.test_on"
        and any(fields.get(name, ...) != own.get(name, ...) for fields in namesakes)
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
