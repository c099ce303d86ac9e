"""Publish results: copy the small files of runs, insert their tables into documents.

A run is published in FOLDER/<config>/seed<seed>/, as config.json, environment.json,
results.json, and its weights if they are small: of every seed if below 0.5 MB, of one
seed if below 5 MB. The table of configs goes between these lines of a document,

    <!-- results -->
    <!-- end of results -->

and others between the same lines with "short results", for one that fits a README, with
"every run", for the table of runs, and with "separated by seeds", for the differences
that the seeds bear out.
"""

import re
import shutil
from pathlib import Path

from mnist_jax import files
from mnist_jax.errors import UserError
from mnist_jax.report import render
from mnist_jax.report.compare import findings, tables
from mnist_jax.report.compare.groups import Comparison, experiment
from mnist_jax.report.compare.tables import Table
from mnist_jax.report.record import Record, read
from mnist_jax.runs.folder import RunFolder

_TABLES = {
    "results": lambda found: _explained(tables.results(found), found),
    "short results": lambda found: _explained(
        tables.results(found, commands=True), found
    ),
    "separated by seeds": lambda found: findings.table(found.groups).markdown(),
    "every run": lambda found: tables.every_run(found).markdown(),
}


def collect(comparison: Comparison, folder: Path) -> list[Path]:
    """Copy each run to a folder of published results, unless it is there already.

    Returns:
        The new folders.

    Raises:
        UserError: the folder has another run of the same config name and seed. Nothing
            is copied then.
        OSError: a file cannot be written.
    """
    copies = {}
    for group in comparison.groups:
        for run in group.runs:
            target = folder / run.name / f"seed{run.seed}"
            there = read(target) if RunFolder(target).results.exists() else None
            if there and _result(there) != _result(run):
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
            (source.results, copy.results),  # last: it marks a finished run
        ):
            files.write_text(new, old.read_text(encoding="utf-8"))
    return list(copies)


def _result(run: Record) -> tuple:
    names = ("parameters_sha256", "test_accuracy")
    return experiment(run), *(run.results.get(name) for name in names)


def _is_small(weights: Path, target: Path) -> bool:
    """Return whether weights are small enough to be published; see above."""
    size = weights.stat().st_size
    others = target.parent.glob(f"*/{weights.name}")
    return size < 500_000 or (size < 5_000_000 and not any(others))


def everything(found: Comparison, reference: str | None = None) -> str:
    """Return the table of results, the findings and the table of runs as Markdown."""
    parts = [_explained(tables.results(found), found)]
    if (table := findings.table(found.groups, reference)).rows:
        parts += [table.markdown(), render.escape(findings.EXPLANATION)]
    return "\n\n".join([*parts, "**Every run**", tables.every_run(found).markdown()])


def insert(comparison: Comparison, document: Path) -> None:
    """Insert the tables between their lines in a Markdown document.

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
            f"{document} does not say where the table belongs. Add the lines "
            "<!-- results --> and <!-- end of results -->."
        )
    files.write_text(document, content)


def _explained(table: Table, found: Comparison) -> str:
    paragraphs = map(render.escape, tables.explanation(found))
    return "\n\n".join([table.markdown(), *paragraphs])
