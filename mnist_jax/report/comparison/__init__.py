"""What finished runs say together: find their folders, group them by config, count.

Of each run folder only config.json, environment.json and results.json are read, so that
a folder that was published with these three alone is as good as a whole one. Neither
JAX nor a data set is needed.
"""

from collections.abc import Sequence
from pathlib import Path

from mnist_jax.errors import UserError
from mnist_jax.report.comparison import runs
from mnist_jax.report.comparison.groups import Comparison, group

__all__ = ["Comparison", "read"]


def read(folders: Sequence[Path]) -> Comparison:
    """Read the runs in or below some folders, and group them by their configs.

    Raises:
        UserError: a folder is not there or holds no run, no run is finished, or a file
            is damaged; the message names it.
    """
    finished: list[Path] = []
    unfinished: list[Path] = []
    for folder in folders:
        done, not_done = runs.find(folder)
        finished += done
        unfinished += not_done
    left_out = [str(path) for path in _distinct(unfinished)]
    if not finished:
        raise UserError(
            f"No run is finished: {', '.join(left_out)}. The command that began a run "
            "goes on with it."
        )
    groups, notes = group([runs.read(path) for path in _distinct(finished)])
    if left_out:
        notes.append(f"Not finished: {', '.join(left_out)}.")
    return Comparison(groups, notes)


def _distinct(paths: Sequence[Path]) -> list[Path]:
    """Return the paths of different folders, as they were first named."""
    known: dict[Path, Path] = {}
    for path in paths:
        known.setdefault(path.resolve(), path)
    return list(known.values())
