"""Compare finished runs: find their folders and group them by config.

Of a run folder only config.json, environment.json and results.json are needed. Neither
JAX nor a data set is.
"""

import re
from collections.abc import Sequence
from pathlib import Path

from mnist_jax.errors import UserError
from mnist_jax.report import record
from mnist_jax.report.compare.groups import Comparison, Group, group

__all__ = ["Comparison", "Group", "find", "read"]


def read(folders: Sequence[Path]) -> Comparison:
    """Read the runs in or below some folders, and group them by their configs.

    Raises:
        UserError: a folder is missing or holds no run, no run is finished, or a file is
            damaged; the message names it.
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
    groups, notes = group([record.read(path) for path in finished])
    return Comparison(groups, [*notes, *([f"Not finished: {names}."] if names else [])])


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
