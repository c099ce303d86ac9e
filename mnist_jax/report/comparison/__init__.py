"""Compare finished runs: find their folders and group them by config.

Of a run folder only config.json, environment.json and results.json are read, so
published folders will do. Neither JAX nor a data set is needed.
"""

from collections.abc import Sequence
from pathlib import Path

from mnist_jax.errors import UserError
from mnist_jax.report.comparison import runs
from mnist_jax.report.comparison.groups import Comparison, group

__all__ = ["Comparison", "ordered", "read"]


def read(folders: Sequence[Path]) -> Comparison:
    """Read the runs in or below some folders, and group them by their configs.

    Raises:
        UserError: a folder is missing or holds no run, no run is finished, or a file is
            damaged; the message names it.
    """
    finished: dict[Path, Path] = {}  # resolved: as first named
    unfinished: dict[Path, Path] = {}
    for folder in folders:
        for known, paths in zip((finished, unfinished), runs.find(folder), strict=True):
            for path in paths:
                known.setdefault(path.resolve(), path)
    names = ", ".join(map(str, unfinished.values()))
    if not finished:
        raise UserError(
            f"No run is finished: {names}. Repeat the command of a run to resume it."
        )
    groups, notes = group([runs.read(path) for path in finished.values()])
    if unfinished:
        notes.append(f"Not finished: {names}.")
    return Comparison(groups, notes)


def ordered(found: Comparison, order: str) -> Comparison:
    """Return it with its rows as "given", or by "accuracy", "time" or "name"."""
    keys = {
        "given": lambda group: 0,
        "accuracy": lambda group: -group.accuracy.mean,
        "time": lambda group: group.median_seconds or float("inf"),
        "name": lambda group: group.first.name,
    }
    return found._replace(groups=sorted(found.groups, key=keys[order]))
