"""Compare finished runs: a row for each experiment, over its seeds.

  mnist-jax compare [FOLDER ...] [--format=markdown] [--sort=accuracy]
      [--report=FOLDER] [--publish=FOLDER] [--insert=DOCUMENT]

FOLDER is a run folder or any folder above some; default: runs/. Runs of one
experiment make one row: their configs differ only in the seed, or in how
things are computed. Only config.json, environment.json and results.json of
each run are read; for --report its predictions too.
"""

import math
from collections.abc import Callable
from pathlib import Path

from absl import flags

from mnist_jax import console, files
from mnist_jax.commands import outputs
from mnist_jax.errors import UserError
from mnist_jax.report import compare
from mnist_jax.report.compare import findings, publish

_FORMAT = flags.DEFINE_enum(
    "format",
    None,
    ["table", "markdown"],
    "Format of the output: a table for a terminal, or Markdown with a table of every "
    "run. Default: a table, or nothing with --report, --publish or --insert.",
)
_SORT = flags.DEFINE_enum(
    "sort",
    "name",
    ["name", "accuracy", "time"],
    "The order of the rows: by name, highest mean first, or shortest training first. "
    "It does not change which experiments are compared.",
)
_REPORT = flags.DEFINE_string(
    "report",
    None,
    "A folder for a page, comparison.md and comparison.html: accuracy, "
    "McNemar's tests.",
)
flags.DEFINE_alias("output", "report")
_INSERT = flags.DEFINE_multi_string(
    "insert",
    [],
    "A Markdown document to write the tables into, between the lines <!-- results --> "
    "and <!-- end of results -->.",
)
_PUBLISH = flags.DEFINE_string(
    "publish",
    None,
    "A folder to copy the JSON files and small weights of each run to, as "
    "FOLDER/<config>/seed<seed>/.",
)

_ORDERS: dict[str, Callable[[compare.Group], float]] = {
    "accuracy": lambda group: -group.mean,
    "time": lambda group: group.median_seconds or math.inf,
}


def main(arguments: list[str]) -> None:
    """Print or write the tables of the runs in some folders."""
    if not arguments and not Path("runs").is_dir():
        raise UserError(
            "There is no folder runs/ here: name the runs to compare, as in "
            "mnist-jax compare FOLDER ..."
        )
    report = files.expand(_REPORT.value) if _REPORT.value else None
    if report:
        outputs.check_folder(report, flag="--report", sign="comparison.md")
    folders = [files.expand(folder) for folder in arguments or ["runs"]]
    found = compare.read(folders)
    if _SORT.value != "name":
        found.groups.sort(key=_ORDERS[_SORT.value])
    if _PUBLISH.value:
        target = files.expand(_PUBLISH.value)
        for run in (run for group in found.groups for run in group.runs):
            place = target / run.name / f"seed{run.seed}"
            outputs.check_folder(place, flag="--publish", sign="results.json")
        console.LOGGER.info(f"{len(publish.collect(found, target))} new in {target}.")
        for note in found.notes:  # a table has them below it
            console.LOGGER.warning(note)
    for document in map(Path, _INSERT.value):
        publish.insert(found, files.expand(document))
        console.LOGGER.info(f"Wrote the tables into {document}.")
    if report:
        from mnist_jax.report.compare import page  # late: it draws

        page.write(found, report)
        console.LOGGER.info(f"Wrote comparison.md and comparison.html in {report}.")
    if _FORMAT.value == "markdown":
        parts = publish.as_markdown(found)
        pairs = parts["separated by seeds"]
        shown = [parts["results"], *([pairs, findings.EXPLANATION] if pairs else [])]
        print("\n\n".join([*shown, parts["every run"]]))
    elif _FORMAT.value or not (_PUBLISH.value or _INSERT.value or report):
        findings.show(found, console.output())
