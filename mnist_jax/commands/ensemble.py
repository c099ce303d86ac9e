"""Combine finished runs, which answer together.

  mnist-jax ensemble RUN RUN ... --output=FOLDER [--by=probabilities]
      [--name=NAME]

RUN is the folder of a finished run, published or not. All must have been
trained on the same data, with the same validation images. FOLDER becomes a run
folder, which predict, evaluate, compare, demo and export take like any other.
It names the runs by path and checksum: leave them where they are.
"""

from absl import flags

from mnist_jax import console, files
from mnist_jax.combine.stacking import BY
from mnist_jax.commands import outputs
from mnist_jax.config import is_name
from mnist_jax.errors import UserError

_BY = flags.DEFINE_enum(
    "by",
    "probabilities",
    list(BY),
    "How they are combined: the mean of their probabilities or of their logits, a "
    "vote, or a logistic regression on their logits for the validation images.",
)
_OUTPUT = flags.DEFINE_string("output", None, "The run folder of the ensemble.")
_NAME = flags.DEFINE_string(
    "name", None, "Its name in tables and among published runs. Default: ensemble-BY."
)


def main(arguments: list[str]) -> None:
    """Combine runs, and print the accuracy and which members help."""
    if not _OUTPUT.value:
        raise UserError("Name a folder to write: RUN RUN ... --output=FOLDER")
    if _NAME.value and not is_name(_NAME.value):
        raise UserError(f"--name={_NAME.value!r} cannot be the name of a folder.")
    # Imported late: they import JAX, and bad flags need not wait for that.
    from mnist_jax.combine import ensemble
    from mnist_jax.devices import compiler

    folder = files.expand(_OUTPUT.value)
    outputs.check_folder(folder, flag="--output", sign=ensemble.FILE)
    compiler.keep_compiled()
    results, sections = ensemble.create(
        [files.expand(argument) for argument in arguments],
        folder,
        by=_BY.value,
        name=_NAME.value or f"ensemble-{_BY.value}",
    )
    for title, parts in sections.items():
        print(f"\n{title}\n")
        for part in parts:
            if isinstance(part, str):
                console.LOGGER.info(part)
            else:
                part.show(console.output())
    on = {"test": "Test", "val": "Validation"}[results["tested_on"]]
    console.LOGGER.info(f"\n{on} accuracy {results['test_accuracy']:.4f}.")
    console.LOGGER.info(f"Report: {folder}/report.html")
