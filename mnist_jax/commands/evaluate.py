"""Report how far to trust networks: calibration, damaged images.

  mnist-jax evaluate [RUN ...] [--robustness] [--tta] [--data=DATA]
      [--output=FOLDER]

RUN is the folder of a finished run, a published one, or a weights.safetensors
of one; default: the network that comes with the package. DATA is a source of
data, such as mnist or my_data:load (its test images), a folder of pictures (in
subfolders named after their classes, or next to a labels.csv with the columns
file,label), or two IDX files as IMAGES,LABELS. Its classes must be those of
the runs.

The figures describe finished networks: do not choose networks by them.
"""

import jax
from absl import flags

from mnist_jax import combine, console, files
from mnist_jax.commands import measure, outputs
from mnist_jax.errors import UserError
from mnist_jax.evaluation import robustness
from mnist_jax.report import evaluated
from mnist_jax.report.evaluated import Evaluation

_DATA = flags.DEFINE_string(
    "data", None, "The images, see above. Default: those that the runs were tested on."
)
_OUTPUT = flags.DEFINE_string(
    "output",
    None,
    "A folder for evaluation.json, evaluation.md and pictures, with all runs side by "
    "side.",
)
_ROBUSTNESS = flags.DEFINE_bool(
    "robustness", False, "Measure the accuracy on images damaged in six ways."
)
_LIMIT = flags.DEFINE_integer(
    "limit",
    None,
    "The number of images to damage, evenly spaced over the set. Default: all.",
    lower_bound=1,
)
_TTA = flags.DEFINE_bool(
    "tta", False, f"Test-time augmentation beside: {robustness.ABOUT_VIEWS}."
)
jax.config.config_with_absl()


def main(arguments: list[str]) -> None:
    """Evaluate networks, print the figures and write them to files."""
    from mnist_jax.devices import compiler

    output = files.expand(_OUTPUT.value) if _OUTPUT.value else None
    if output:
        outputs.check_folder(output, flag="--output", sign="evaluation.json")
    if _LIMIT.value and not _ROBUSTNESS.value:
        raise UserError("--limit is about damaged images: it needs --robustness.")
    compiler.keep_compiled()
    runs = [combine.load(argument) for argument in arguments] or [combine.load()]
    images = measure.images_for(runs, _DATA.value)
    count = len(images.split)
    found = measure.assess(
        runs,
        images,
        tta=_TTA.value,
        damaged=min(_LIMIT.value or count, count) if _ROBUSTNESS.value else 0,
    )
    _show(found)
    if output:
        evaluated.write(found, output)
        console.LOGGER.info(
            f"Wrote evaluation.md, its pictures and evaluation.json in {output}."
        )


def _show(found: Evaluation) -> None:
    """Print the tables and the notes."""
    output = console.output()
    console.LOGGER.info(f"Evaluation on {found.data}\n")
    evaluated.accuracies(found.runs).show(output, *found.notes)
    if damage := evaluated.robustness(found.runs, narrow=output.width < 120):
        print()
        damage.show(output, f"On {found.runs[0]['robustness']['examples']:,} images.")
