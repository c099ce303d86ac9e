"""Compare finished runs: find their folders and group them by config.

Of a run folder only config.json, environment.json and results.json are needed. Neither
JAX nor a data set is.
"""

import re
from collections.abc import Sequence
from pathlib import Path

from mnist_jax.errors import UserError
from mnist_jax.report import record
from mnist_jax.report.compare.groups import Comparison, Group, experiment, group

__all__ = ["Comparison", "Group", "find", "read"]


def read(folders: Sequence[Path]) -> Comparison:
    """Read the runs in or below some folders, and group them by their configs.

    Raises:
        UserError: a folder is missing or holds no run, or no run can be compared.
    """
    found: dict[Path, Path] = {}  # resolved: as first named
    for folder in folders:
        for path in find(folder):
            found.setdefault(path.resolve(), path)
    paths = [found[path] for path in sorted(found)]
    finished = [path for path in paths if (path / "results.json").exists()]
    names = ", ".join(str(path) for path in paths if path not in finished)
    if not finished:
        raise UserError(
            f"No run is finished: {names}. Repeat the command of a run to resume it."
        )
    records, skipped = [], []
    for path in finished:
        try:
            run = record.read(path)
            experiment(run)
            records.append(run)
        except UserError as error:
            skipped.append(f"Skipped: {error}")
    if len(skipped) == len(finished):
        raise UserError(skipped[0])
    groups, notes = group(records)
    unfinished = [f"Not finished: {names}."] if names else []
    return Comparison(groups, [*notes, *unfinished, *skipped])


def find(folder: Path) -> set[Path]:
    """Find the folders of runs, finished or not, in or below a folder.

    Raises:
        UserError: the folder does not exist or holds no run.
    """
    if not folder.is_dir():
        what = "is not a folder" if folder.exists() else "does not exist"
        raise UserError(f"{folder} {what}. Name run folders, or folders above them.")
    found = {
        path.parent
        for path in folder.rglob("*.json")
        if path.stem in ("results", "config", "environment")
        and not re.search(r"/(checkpoints|\.[^/]+)/", f"/{path.relative_to(folder)}")
    }
    if not found:
        raise UserError(
            f"No run in {folder}: it holds no results.json, at any depth. Name run "
            "folders, or folders above them."
        )
    return found
