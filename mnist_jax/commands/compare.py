"""Compare finished runs: a table with one row for each experiment, over its seeds.

  mnist-jax compare [FOLDER ...] [--format=markdown] [--output=FILE] [--sort=accuracy]
      [--reference=NAME] [--report=FOLDER] [--publish=FOLDER] [--insert=DOCUMENT]

FOLDER is a run folder or any folder above some; default: runs/. Runs of one experiment
make one row: their configs differ only in the seed, or in how things are computed. Only
config.json, environment.json, results.json and evaluation/evaluation.json of each run
are read; for --report its predictions and metrics too.
"""

import sys
from pathlib import Path

from absl import flags
from rich.console import Console

from mnist_jax import files
from mnist_jax.commands import outputs
from mnist_jax.errors import UserError
from mnist_jax.report import compare
from mnist_jax.report.compare import findings, publish, tables

_FORMAT = flags.DEFINE_enum(
    "format",
    None,
    ["table", "markdown", "latex", "csv"],
    "Format of the output: a table for a terminal, Markdown with a table of every run, "
    "LaTeX for a paper, or CSV with a line for each run. Default: by the ending of "
    "--output, .md, .tex or .csv, else a table for a terminal.",
)
_OUTPUT = flags.DEFINE_string(
    "output", None, "The file to write the table to, instead of printing it."
)
_SORT = flags.DEFINE_enum(
    "sort",
    "name",
    ["name", "accuracy", "time"],
    "The order of the rows: by name, highest mean first, or shortest training first. "
    "It does not change which experiments are compared.",
)
_REFERENCE = flags.DEFINE_string(
    "reference",
    None,
    "The name of a config to compare all others with. Default: each recipe is compared "
    "with the plain recipe of its network, and the networks with each other.",
)
_REPORT = flags.DEFINE_string(
    "report",
    None,
    "A folder for a page, comparison.md and comparison.html: accuracy, its cost, "
    "learning curves, mistakes, McNemar's tests.",
)
_INSERT = flags.DEFINE_multi_string(
    "insert",
    [],
    "A Markdown document to write the tables into, between the lines <!-- results --> "
    "and <!-- end of results -->.",
)
_PUBLISH = flags.DEFINE_string(
    "publish",
    None,
    "A folder to copy config.json, environment.json and results.json of each run to, "
    "as FOLDER/<config>/seed<seed>/.",
)

_FORMAT_BY_ENDING = {".md": "markdown", ".tex": "latex", ".csv": "csv"}


def main(arguments: list[str]) -> None:
    """Print or write the table of the runs in some folders."""
    if not arguments and not Path("runs").is_dir():
        raise UserError(
            "There is no folder runs/ here: name the runs to compare, as in "
            "mnist-jax compare FOLDER ..."
        )
    output, report = (
        Path(flag.value).expanduser() if flag.value else None
        for flag in (_OUTPUT, _REPORT)
    )
    if output:
        outputs.check(output, flag=f"--output={output}", mark=b"Network")
    if report:
        outputs.check_folder(report, flag="--report", sign="comparison.md")
    folders = [Path(folder).expanduser() for folder in arguments or ["runs"]]
    found = compare.ordered(compare.read(folders), _SORT.value)
    findings.pairs(found.groups, _REFERENCE.value)  # before anything is written
    if _PUBLISH.value:
        target = Path(_PUBLISH.value).expanduser()
        print(f"{len(publish.collect(found, target))} new in {target}.")
    for document in map(Path, _INSERT.value):
        publish.insert(found, document.expanduser())
        print(f"Wrote the tables into {document}.")
    if report:
        from mnist_jax.report.compare import page  # late: it draws

        page.write(found, report, _REFERENCE.value)
        print(f"Wrote comparison.md and comparison.html in {report}.")
    form = _FORMAT.value or (output and _FORMAT_BY_ENDING.get(output.suffix.lower()))
    if output:
        files.write_text(output, _rendered(found, form or "table", width=120))
        print(f"Wrote {output}.")
    elif form or not (_PUBLISH.value or _INSERT.value or report):
        print(_rendered(found, form or "table"), end="")


def _rendered(found: compare.Comparison, form: str, width: int | None = None) -> str:
    """Return the tables in a format; notes that CSV has no place for go to stderr."""
    match form:
        case "markdown":
            parts = publish.as_markdown(found, _REFERENCE.value)
            shown = [parts["results"]]
            if table := parts["separated by seeds"]:
                shown += [table, findings.EXPLANATION]
            return "\n\n".join([*shown, parts["every run"]]) + "\n"
        case "latex":
            notes = "".join(f"% {line}\n" for line in tables.explanation(found))
            return notes + tables.results(found).latex()
        case "csv":
            for line in found.notes:
                print(line, file=sys.stderr)
            return tables.every_run(found).csv()
    console = Console(width=width)
    with console.capture() as capture:
        findings.show(found, console, _REFERENCE.value)
    return capture.get()
