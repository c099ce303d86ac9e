"""Results for others to see: the small files of runs, and their tables in documents.

What is published of a run is config.json, environment.json and results.json, in
FOLDER/<config>/seed<seed>/, and its weights if they are small: of every seed below half
a megabyte, of one seed below five. A document says where a table belongs by two lines:

    <!-- results -->
    <!-- end of results -->

for the table of the configs, and the same with "every run" for that of the runs and
"separated by seeds" for what the seeds bear out.
"""

import re
import shutil
from pathlib import Path

from mnist_jax import files
from mnist_jax.errors import UserError
from mnist_jax.report.comparison import separation, text
from mnist_jax.report.comparison.groups import Comparison
from mnist_jax.report.comparison.runs import read
from mnist_jax.runs.folder import RunFolder

_TABLES = {
    "results": text.results,
    "separated by seeds": lambda found: separation.table(found.groups),
    "every run": text.every_run,
}


def collect(comparison: Comparison, folder: Path) -> list[Path]:
    """Copy the small files of each run to a folder of published results.

    A run that lies there already is left alone.

    Returns:
        The folders that are new.

    Raises:
        UserError: another run of the same config name and seed lies there. Nothing is
            copied then.
        OSError: a file cannot be written.
    """
    copies = {}
    for group in comparison.groups:
        for run in group.runs:
            target = folder / run.name / f"seed{run.seed}"
            there = read(target) if RunFolder(target).results.exists() else None
            if there and not (
                there.experiment == run.experiment and there.same_result(run)
            ):
                raise UserError(
                    f"{target} holds another result than {run.folder}: remove it "
                    "first, or give the config another name."
                )
            if target in copies:
                raise UserError(
                    f"{run.folder} and {copies[target].folder} would both be {target}: "
                    "give one of the configs another name."
                )
            if not there:
                copies[target] = run
    for target, run in copies.items():
        target.mkdir(parents=True, exist_ok=True)
        source, copy = RunFolder(run.folder), RunFolder(target)
        if source.weights.exists() and _is_small(source.weights, target):
            shutil.copyfile(source.weights, copy.weights)
        for old, new in (
            (source.config, copy.config),
            (source.environment, copy.environment),
            (source.results, copy.results),  # last: it says that the folder is whole
        ):
            files.write_text(new, old.read_text(encoding="utf-8"))
    return list(copies)


def _is_small(weights: Path, target: Path) -> bool:
    """Say whether weights are published: see above."""
    size = weights.stat().st_size
    others = target.parent.glob(f"*/{weights.name}")
    return size < 500_000 or (size < 5_000_000 and not any(others))


def insert(comparison: Comparison, document: Path) -> None:
    """Write the tables between their two lines in a Markdown document.

    Raises:
        UserError: the document cannot be read, or has no such lines.
        OSError: it cannot be written.
    """
    try:
        content = document.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"Cannot read {document}: {reason}.") from error
    found = 0
    for name, table in _TABLES.items():
        begin, end = f"<!-- {name} -->", f"<!-- end of {name} -->"
        pattern = f"(?s){re.escape(begin)}.*?{re.escape(end)}"
        parts = re.split(pattern, content)
        content = f"{begin}\n\n{table(comparison)}\n\n{end}".join(parts)
        found += len(parts) - 1
    if not found:
        raise UserError(
            f"{document} does not say where the table belongs: between the lines "
            "<!-- results --> and <!-- end of results -->."
        )
    files.write_text(document, content)
