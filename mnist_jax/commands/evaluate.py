"""Report how far networks can be trusted: intervals, calibration, damaged images.

  mnist-jax evaluate [RUN ...] [--robustness] [--tta] [--data=DATA] [--output=FOLDER]

RUN is the folder of a finished run, a published one, or a weights.safetensors of one;
if none is given, the LeNet-5 that comes with the package. DATA is mnist, tfds or
digits (their test images), a folder of PNG files (in subfolders 0 to 9, or next to a
labels.csv with the columns file,label), or two IDX files as IMAGES,LABELS.

What is found of a run's own test images is written into its folder, in evaluation/.
It describes a network that is finished: nothing may be chosen by it.
"""

from pathlib import Path

import jax
from absl import flags
from rich import box
from rich.console import Console
from rich.table import Table

from mnist_jax.commands import outputs
from mnist_jax.errors import UserError
from mnist_jax.evaluation import robustness
from mnist_jax.report import evaluated, sections
from mnist_jax.report.evaluated import Evaluation, measure, page
from mnist_jax.runs import load

_DATA = flags.DEFINE_string(
    "data", None, "The images, see above. Default: those that the runs were tested on."
)
_OUTPUT = flags.DEFINE_string(
    "output",
    None,
    "A folder for evaluation.json, evaluation.md and pictures, with all runs side by "
    "side. Default: evaluation/ in each run's own folder; published ones are not "
    "written to.",
)
_ROBUSTNESS = flags.DEFINE_bool(
    "robustness", False, "Measure the accuracy on images damaged in nine ways."
)
_LIMIT = flags.DEFINE_integer(
    "limit",
    None,
    "Damage so many of the images only, evenly spaced over the set: for networks that "
    "are slow.",
    lower_bound=1,
)
_TTA = flags.DEFINE_bool(
    "tta", False, f"Test-time augmentation beside: {robustness.ABOUT_VIEWS}."
)
jax.config.config_with_absl()


def main(arguments: list[str]) -> None:
    """Evaluate networks, print what is found and write it down."""
    from mnist_jax.devices import compiler

    output = Path(_OUTPUT.value).expanduser() if _OUTPUT.value else None
    if output:
        outputs.check_folder(output, flag="--output", sign="evaluation.json")
    if _LIMIT.value and not _ROBUSTNESS.value:
        raise UserError("--limit is about damaged images: it needs --robustness.")
    compiler.keep_compiled()
    runs = [load.load(argument) for argument in arguments] or [load.load()]
    images = measure.images_for(runs, _DATA.value)
    count = len(images.split)
    found = measure.assess(
        runs,
        images,
        tta=_TTA.value,
        damaged=min(_LIMIT.value or count, count) if _ROBUSTNESS.value else 0,
    )
    _show(found, Console())
    if output:
        _write(found, output, images)
        return
    reasons = dict.fromkeys(measure.why_not_saved(run, images) for run in runs)
    for run, entry in zip(runs, found.runs, strict=True):
        if not measure.why_not_saved(run, images):
            alone = found._replace(runs=[entry])
            _write(alone, run.path.parent / evaluated.FOLDER, images)
    if missing := [reason for reason in reasons if reason]:
        print(f"Not saved: {'; '.join(missing)}. --output=FOLDER saves it.")


def _show(found: Evaluation, console: Console) -> None:
    """Print the tables, and what their figures are."""
    console.print(f"Evaluation on {found.data}\n", style="bold", highlight=False)
    console.print(_table(page.accuracies(found.runs)))
    lines = page.notes(found)
    if "robustness" in found.runs[0]:
        console.print()
        console.print(_table(page.robustness(found.runs)))
        lines.append(page.about_robustness(found.runs))
    console.print()
    for line in lines:
        console.print(line, style="dim", markup=False, highlight=False)


def _table(content: sections.Table) -> Table:
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for place, title in enumerate(content.header):
        table.add_column(title, justify="right" if place else "left")
    for row in content.rows:
        table.add_row(*row)
    return table


def _write(found: Evaluation, folder: Path, images: measure.Images) -> None:
    names = evaluated.write(found, folder, images.split.images)
    print(f"Wrote {', '.join(names)} in {folder}.")
