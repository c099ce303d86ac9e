"""Group runs by their configs."""

import collections
import functools
import json
import math
import os
import re
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from mnist_jax.config import from_stored, to_json
from mnist_jax.report.record import Record
from mnist_jax.runs.folder import INCIDENTAL_FIELDS, Fields, flatten

# Fields in which runs of one experiment may differ: the seeds, where files are, how
# things are computed, and a figure that is only shown beside the result.
_NOT_THE_EXPERIMENT = re.compile(
    "|".join(
        re.escape(name) + r"(?![^.\[])"
        for name in (
            *("seed", "data.subset_seed", "report_accuracy"),
            *INCIDENTAL_FIELDS,
        )
    )
    + r"|phases\[\d+\]\.reuse_features$"
)


@dataclass(frozen=True)
class Group:
    """The runs of one experiment, one for each seed."""

    runs: tuple[Record, ...]
    """Ascending in seed; at least one."""
    key: str
    """The experiment: all groups have different ones."""
    label: str
    """The name of the config, with its differences from others of that name."""

    @property
    def first(self) -> Record:
        """Any of the runs, for their common properties."""
        return self.runs[0]

    @property
    def data(self) -> str:
        """The name of the data set."""
        return str(self.first.results["data"])

    @property
    def train_size(self) -> int:
        """The number of training images that were drawn; 0 for all."""
        config = self.first.config
        return config.get("images", config.get("data", {}).get("train_size", 0))

    @property
    def weights(self) -> str:
        """The weights whose accuracy is the result: "last", "best" or "" for others."""
        return self.first.results.get("test_weights", "")

    @functools.cached_property
    def accuracies(self) -> list[float]:
        """The accuracy of each run on the images of `tested_on`."""
        return [float(run.results["test_accuracy"]) for run in self.runs]

    @property
    def mean(self) -> float:
        """The mean of the accuracies."""
        return statistics.mean(self.accuracies)

    @property
    def sd(self) -> float | None:
        """The sample standard deviation (n - 1); None for a single run."""
        return statistics.stdev(self.accuracies) if len(self.runs) > 1 else None

    @property
    def val_accuracy(self) -> float:
        """The mean accuracy on the validation images; -1 for runs that lack it."""
        values = [run.accuracy("val", self.weights) for run in self.runs]
        return statistics.mean(-1.0 if value is None else value for value in values)

    @property
    def report_accuracy(self) -> float | None:
        """The report's test accuracy for this network, if comparable."""
        comparable = self.first.tested_on == "test" and not self.train_size
        return self.first.config.get("report_accuracy") or None if comparable else None

    def numbers(self, name: str) -> list[float]:
        """Return the values of a field of results.json, which other kinds may lack."""
        return [run.results[name] for run in self.runs if name in run.results]

    @property
    def median_seconds(self) -> float | None:
        """The median training time; runs that were paused would spoil the mean."""
        seconds = self.numbers("train_seconds")
        return statistics.median(seconds) if seconds else None

    @property
    def hardware(self) -> str:
        """The hardware of the runs; "" if unknown."""
        return " or ".join(dict.fromkeys(r.hardware for r in self.runs if r.hardware))


class Series(NamedTuple):
    """Experiments that differ in one number alone."""

    field: str
    """Of the config, such as "data.train_size"."""
    name: str
    """Of the experiment without the number."""
    values: list[float]
    """Ascending; at least three."""
    groups: list[Group]
    """One for each value."""


class Comparison(NamedTuple):
    """The runs found in some folders."""

    groups: list[Group]
    """By data set, the one with the most experiments first; by the number of training
    images, all of them first; and by name."""
    notes: list[str]
    """Remarks that a reader of the table needs, one sentence each."""


def group(records: Sequence[Record]) -> Comparison:
    """Group runs by their experiment, counting each seed once.

    Of several runs of one seed the first counts, and a note lists them.
    """
    found: dict[str, dict[int, list[Record]]] = {}
    for run in records:
        identity = [run.name, run.kind, run.tested_on, run.images, experiment(run)]
        key = json.dumps(identity, sort_keys=True)
        found.setdefault(key, {}).setdefault(run.seed, []).append(run)
    firsts = [next(iter(seeds.values()))[0] for seeds in found.values()]
    labels = dict(zip(found, _labels(firsts), strict=True))
    groups = [
        Group(tuple(seeds[seed][0] for seed in sorted(seeds)), key, labels[key])
        for key, seeds in sorted(found.items())
    ]
    sizes = collections.Counter(one.data for one in groups)
    groups.sort(
        key=lambda one: (-sizes[one.data], one.data, -(one.train_size or math.inf))
    )
    notes = [
        f"{runs[0].name}, seed {runs[0].seed}, is counted once, by the first of: "
        + ", ".join(f"{r.folder} ({r.results['test_accuracy']:.4f})" for r in runs)
        + "."
        for seeds in found.values()
        for runs in seeds.values()
        if len(runs) > 1
    ]
    return Comparison(groups, notes)


def series(groups: Sequence[Group]) -> list[Series]:
    """Find experiments of `mnist-jax sweep --vary`, with three or more values each."""
    found: dict[tuple[str, str], dict[float, Group]] = {}
    for group in groups:
        fields = experiment(group.first)
        del fields["name"]
        about = group.first.kind, group.first.model, group.first.images
        for field, value in fields.items():
            is_number = isinstance(value, int | float) and not isinstance(value, bool)
            if is_number and (field, value) != ("data.train_size", 0):  # 0: all images
                others = json.dumps([about, fields | {field: None}], sort_keys=True)
                found.setdefault((field, others), {})[value] = group
    return [
        Series(
            field,
            os.path.commonprefix([g.first.name for g in by_value.values()])
            .partition(field.rpartition(".")[2])[0]
            .rstrip("-"),
            sorted(by_value),
            [by_value[value] for value in sorted(by_value)],
        )
        for (field, _), by_value in found.items()
        if len(by_value) >= 3
    ]


def experiment(run: Record) -> Fields:
    """Return the fields of the config that identify the experiment, flat."""
    config = run.config
    if run.kind == "network":  # others may have configs of another kind
        config = to_json(from_stored(config, name=str(run.folder / "config.json")))
    return {
        field: value
        for field, value in flatten(config).items()
        if not _NOT_THE_EXPERIMENT.match(field)
    }


def _labels(firsts: Sequence[Record]) -> list[str]:
    """Return a label for each group, by its first run.

    It has the fields in which its config differs from others of its name.
    """
    found, fields = [], [experiment(run) for run in firsts]
    for run, mine in zip(firsts, fields, strict=True):
        details = [] if run.name.startswith(run.model) else [run.model]
        if run.tested_on == "val":
            details.append("on validation images")
        others = [f for r, f in zip(firsts, fields, strict=True) if r.name == run.name]
        differences = [
            f"{field}={value if isinstance(value, str) else json.dumps(value)}"
            for field, value in mine.items()
            if field != "data.test_on"  # stated in words
            and any(other.get(field, ...) != value for other in others)
        ]
        details += [*differences[:3], *(["..."] if differences[3:] else [])]
        found.append(f"{run.name} ({', '.join(details)})" if details else run.name)
    return [
        f"{label}, images {run.images:.8}" if found.count(label) > 1 else label
        for label, run in zip(found, firsts, strict=True)
    ]
