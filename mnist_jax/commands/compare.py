"""Compare finished runs: a table with one row for each experiment, over its seeds.

  mnist-jax compare [FOLDER ...] [--format=markdown] [--output=FILE]
      [--report=FOLDER] [--publish=FOLDER] [--insert=DOCUMENT]

FOLDER is a run folder or any folder above some; default: runs/. Runs of one experiment
make one row: their configs differ only in the seed, or in how things are computed. Only
config.json, environment.json, results.json and evaluation/evaluation.json of each run
are read; for --report its predictions and metrics too.
"""

import io
import sys
from pathlib import Path

from absl import flags
from rich.console import Console

from mnist_jax import files
from mnist_jax.commands import outputs
from mnist_jax.errors import UserError
from mnist_jax.report import comparison
from mnist_jax.report.comparison import Comparison, latex, publish, terminal, text

_FORMAT = flags.DEFINE_enum(
    "format",
    None,
    ["terminal", "markdown", "csv", "latex"],
    "Format of the table. CSV has unrounded numbers. Default: by the ending of "
    "--output (.md, .csv, .tex, or .txt for a terminal's), otherwise for a terminal.",
)
_LATEX = flags.DEFINE_bool("latex", False, "Short for --format=latex.")
_REPORT = flags.DEFINE_string(
    "report",
    None,
    "A folder for a page, comparison.md and comparison.html: accuracy, its cost, "
    "learning curves, who errs where, McNemar's tests.",
)
_OUTPUT = flags.DEFINE_string(
    "output", None, "The file to write the table to, instead of printing it."
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
_SORT = flags.DEFINE_enum(
    "sort",
    "given",
    ["given", "accuracy", "time", "name"],
    "The order of the rows: as the folders are given, best mean first, shortest "
    "training first, or by name.",
)

_FORMAT_BY_ENDING = {
    ".md": "markdown",
    ".csv": "csv",
    ".tex": "latex",
    ".txt": "terminal",
}
_WIDTH_IN_FILES = 120  # of a terminal's table


def main(arguments: list[str]) -> None:
    """Print or write the table of the runs in some folders."""
    output = Path(_OUTPUT.value).expanduser() if _OUTPUT.value else None
    if not arguments and not Path("runs").is_dir():
        raise UserError(
            "There is no folder runs/ here: name the runs to compare, as in "
            "mnist-jax compare FOLDER ..."
        )
    folders = [Path(folder).expanduser() for folder in arguments or ["runs"]]
    if output and not output.parent.is_dir():
        raise UserError(f"--output={output}: there is no folder {output.parent}.")
    chosen = _FORMAT.value or ("latex" if _LATEX.value else None)
    kind = chosen or _format_of(output)
    found = comparison.ordered(comparison.read(folders), _SORT.value)
    if _PUBLISH.value:
        target = Path(_PUBLISH.value).expanduser()
        print(f"{len(publish.collect(found, target))} new in {target}.")
    for document in map(Path, _INSERT.value):
        publish.insert(found, document.expanduser())
        print(f"Wrote the tables into {document}.")
    if _REPORT.value:
        from mnist_jax.report.comparison import page  # late: it draws

        target = Path(_REPORT.value).expanduser()
        outputs.check_folder(target, flag="--report", sign="comparison.md")
        print(f"Wrote {' and '.join(page.write(found, target))} in {target}.")
    if (_PUBLISH.value or _INSERT.value or _REPORT.value) and not (output or chosen):
        return
    if kind == "csv":  # has no place for notes
        for note in found.notes:
            print(note, file=sys.stderr)
    if output:
        content = rendered(found, kind)
        mark = content.splitlines()[0].encode()
        outputs.check(output, flag=f"--output={output}", mark=mark)
        files.write_text(output, content)
        print(f"Wrote {output}.")
    elif kind == "terminal":
        terminal.show(found, Console())
    else:
        print(rendered(found, kind), end="")


def _format_of(output: Path | None) -> str:
    """Return the format for the ending of a file, or raise UserError."""
    ending = output.suffix.lower() if output else ""
    if ending and ending not in _FORMAT_BY_ENDING:
        raise UserError(
            f"--output={output}: no table format has the ending {ending}. Known: "
            f"{', '.join(_FORMAT_BY_ENDING)}; or choose one by --format."
        )
    return _FORMAT_BY_ENDING.get(ending, "terminal")


def rendered(found: Comparison, kind: str) -> str:
    """Return the table as text in one of the formats of --format."""
    if kind == "csv":
        return text.to_csv(found)
    if kind == "latex":
        return latex.to_latex(found)
    if kind == "markdown":
        return text.to_markdown(found)
    file = io.StringIO()
    terminal.show(found, Console(file=file, width=_WIDTH_IN_FILES))
    return file.getvalue()
