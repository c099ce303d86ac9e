"""Publish results: copy the small files of runs, insert their tables into documents.

A run is published in FOLDER/<config>/seed<seed>/, as config.json, environment.json,
results.json, and its weights and predictions if they are small: of every seed if below
0.5 MB, of one seed if below 5 MB. Tables are written between such lines of a document,

    <!-- results -->
    <!-- end of results -->

and between lines with "short results" (one recipe for each network, with its command),
"every run" and "separated by seeds" (the findings).
"""

import re
import shutil
from pathlib import Path
from typing import Any

from mnist_jax import files
from mnist_jax.errors import UserError
from mnist_jax.report import render
from mnist_jax.report.compare import findings, tables
from mnist_jax.report.compare.groups import Comparison, experiment
from mnist_jax.report.record import Record, read
from mnist_jax.runs.folder import RunFolder, read_text


def collect(found: Comparison, folder: Path) -> list[Path]:
    """Copy each run to a folder of published results, unless it is there already.

    Returns:
        The new folders.

    Raises:
        UserError: the folder has another run of the same config name and seed. Nothing
            is copied then.
        OSError: a file cannot be written.
    """
    copies: dict[Path, Record] = {}
    for run in (run for group in found.groups for run in group.runs):
        target = folder / run.name / f"seed{run.seed}"
        published = RunFolder(target).results.exists()
        there = read(target) if published else copies.setdefault(target, run)
        if any(identity(there) != identity(run) for identity in (experiment, _outcome)):
            raise UserError(
                f"There are two results for {target}, of {there.folder} and of "
                f"{run.folder}: remove one, or give its config another name."
            )
    for target, run in copies.items():
        target.mkdir(parents=True, exist_ok=True)
        source = RunFolder(run.folder)
        for file in (source.weights, source.predictions):
            if file.exists() and _is_small(file, target):
                shutil.copyfile(file, target / file.name)
        # results.json is last: it marks a finished run.
        for name in ("config.json", "environment.json", "results.json"):
            text = (run.folder / name).read_text(encoding="utf-8")
            files.write_text(target / name, text)
    return list(copies)


def _outcome(run: Record) -> tuple[Any, Any]:
    return run.results["test_accuracy"], run.results.get("parameters_sha256")


def _is_small(file: Path, target: Path) -> bool:
    """Return whether a file is small enough to be published; see above."""
    size = file.stat().st_size
    others = target.parent.glob(f"*/{file.name}")
    return size < 500_000 or (size < 5_000_000 and not any(others))


def as_markdown(found: Comparison) -> dict[str, str]:
    """Return the tables of a comparison, with their explanations, by name."""
    notes = [render.escape(line) for line in (tables.EXPLANATION, *found.notes)]
    pairs = findings.table(found.groups)
    return {
        "results": "\n\n".join([tables.results(found).markdown(), *notes]),
        "short results": tables.short(found).markdown(),
        "separated by seeds": pairs.markdown() if pairs.rows else "",
        "every run": tables.every_run(found).markdown(),
    }


def insert(found: Comparison, document: Path) -> None:
    """Insert the tables between their lines in a Markdown document.

    Raises:
        UserError: the document cannot be read, or has no such lines.
        OSError: it cannot be written.
    """
    content, places = read_text(document), 0
    for name, table in as_markdown(found).items():
        begin, end = f"<!-- {name} -->", f"<!-- end of {name} -->"
        parts = re.split(f"(?s){re.escape(begin)}.*?{re.escape(end)}", content)
        content = f"{begin}\n\n{table}\n\n{end}".join(parts)
        places += len(parts) - 1
    if not places:
        raise UserError(
            f"{document} does not say where the table belongs. Add the lines "
            "<!-- results --> and <!-- end of results -->."
        )
    files.write_text(document, content)
