"""Group runs by their configs, and summarize the groups."""

import functools
import json
import re
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from mnist_jax.report.comparison.runs import Run, is_number, is_within


class Statistics(NamedTuple):
    """A summary of several figures."""

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
        """The weights whose accuracy is the result: "last" or "best"."""
        return self.first.results["test_weights"]

    @property
    def other_weights(self) -> str:
        """The weights that were tested for comparison only."""
        return "best" if self.weights == "last" else "last"

    @functools.cached_property
    def accuracy(self) -> Statistics:
        """The accuracy on the images of `tested_on`, over the seeds."""
        return summarize([run.results["test_accuracy"] for run in self.runs])

    @property
    def other_accuracy(self) -> Statistics | None:
        """The accuracy with the other weights, if known of all runs."""
        found = [run.accuracy("test", self.other_weights) for run in self.runs]
        values = [value for value in found if value is not None]
        return summarize(values) if len(values) == len(found) else None

    @property
    def report_accuracy(self) -> float | None:
        """The report's test accuracy for this network, if comparable."""
        if self.tested_on == "val":
            return None
        values = [run.config.get("report_accuracy") for run in self.runs]
        return next((value for value in values if is_number(value) and value), None)

    def numbers(self, name: str) -> list[float]:
        """Return the values of a field of results.json that are numbers."""
        values = [run.number(name) for run in self.runs]
        return [value for value in values if value is not None]

    @property
    def median_seconds(self) -> float | None:
        """The median training time of the runs that state it.

        A run that was paused or shared its machine would spoil their mean.
        """
        seconds = self.numbers("train_seconds")
        return statistics.median(seconds) if seconds else None

    @property
    def model(self) -> str:
        """The name of the architecture."""
        names = [run.results.get("model") for run in self.runs]
        return ", ".join(_unique(str(name) for name in names if name is not None))

    @property
    def data(self) -> list[str]:
        """The data sets of the runs."""
        return _unique(run.data for run in self.runs if run.data)

    @property
    def tested_on(self) -> str:
        """The images that the runs were tested on: "test" or "val"."""
        return self.first.tested_on

    @property
    def hardware(self) -> list[str]:
        """The hardware of the runs."""
        return _unique(run.hardware for run in self.runs if run.hardware)


class Comparison(NamedTuple):
    """The runs found in some folders."""

    groups: list[Group]
    """In the order in which the first run of each was found."""
    notes: list[str]
    """Remarks that a reader of the table needs, one sentence each."""


def group(runs: Sequence[Run]) -> Comparison:
    """Group runs by their experiment, counting each seed once.

    Of several runs of one seed the first counts, and a note lists them.
    """
    by_experiment: dict[str, dict[int, list[Run]]] = {}
    for run in runs:
        key = json.dumps(run.experiment, sort_keys=True)
        by_experiment.setdefault(key, {}).setdefault(run.seed, []).append(run)
    groups = [[same[0] for same in by.values()] for by in by_experiment.values()]
    return Comparison(
        [
            Group(
                runs=tuple(sorted(members, key=lambda run: run.seed)),
                differences=tuple(_differences(members[0], groups)),
            )
            for members in groups
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


def _repetitions(runs_by_seed: Sequence[Sequence[Run]]) -> list[str]:
    """List the seeds that have several runs, by whether their results agree."""
    agreeing, differing = [], []
    for runs in runs_by_seed:
        if len(runs) > 1:
            same = all(run.same_result(runs[0]) for run in runs)
            found = ", ".join(
                f"{run.results['test_accuracy']:.4f} in {run.folder}" for run in runs
            )
            (agreeing if same else differing).append(
                f"{runs[0].name} seed {runs[0].seed} ({found})"
            )
    notes = {
        "Counted once, since the results are the same": agreeing,
        "Counted once, by the first of several results": differing,
    }
    return [f"{why}: {'; '.join(which)}." for why, which in notes.items() if which]


def _differences(run: Run, groups: Sequence[Sequence[Run]]) -> list[str]:
    """List the fields in which a run's config differs from others of its name.

    The images that it was tested on are left out: see `Group.tested_on`.
    """
    namesakes = [runs[0].experiment for runs in groups if runs[0].name == run.name]
    mine = run.experiment
    found = []
    for name in dict.fromkeys(name for fields in namesakes for name in fields):
        same = all(fields.get(name, ...) == mine.get(name, ...) for fields in namesakes)
        if same or name == "data.test_on":
            continue
        if name in mine:
            found.append(f"{name}={_as_flag_value(mine[name])}")
        elif not _has(mine, name):  # else the fields inside it are listed
            # Of a missing section, only the outermost is named.
            ends = [match.start() for match in re.finditer(r"[.\[]|$", name)]
            sections = [name[:end] for end in ends]
            found.append(
                f"no {next(part for part in sections if not _has(mine, part))}"
            )
    return _unique(found)


def _has(fields: Iterable[str], name: str) -> bool:
    """Return whether there is a field of this name, or a field inside it."""
    return any(is_within(field, (name,)) for field in fields)


def _as_flag_value(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _unique(values: Iterable[str]) -> list[str]:
    """Return the different values, in order of first appearance."""
    return list(dict.fromkeys(values))
