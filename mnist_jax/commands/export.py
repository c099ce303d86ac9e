"""Export a trained network to one file, for another program.

  mnist-jax export [RUN] --output=FILE

RUN is a run folder or its weights.safetensors. Default: the network that comes
with the package. The ending of FILE is its format:

  .onnx         for ONNX Runtime, also in browsers, and many other programs
  .stablehlo    XLA's own program for CPUs, NVIDIA's GPUs and TPUs
  .safetensors  the parameters, for `mnist_jax.load_run`
  .html         a page to draw digits in, which needs no internet connection

A model card is written to FILE.md: the network's data, accuracy, input and
output, and how to use the file.
"""

from absl import flags

from mnist_jax import console, files
from mnist_jax.commands import outputs
from mnist_jax.errors import UserError

_OUTPUT = flags.DEFINE_string(
    "output", None, "The file to write. An earlier export there is replaced."
)


def main(arguments: list[str]) -> None:
    """Export a run."""
    if len(arguments) > 1 or not _OUTPUT.value:
        raise UserError("Give one run at most, and a file: [RUN] --output=FILE")
    # Imported late: they import JAX, and bad flags need not wait for that.
    from mnist_jax import combine, export

    output = files.expand(_OUTPUT.value)
    kind, flag = output.suffix.removeprefix("."), f"--output={output}"
    if kind not in export.FORMATS:
        endings = ", ".join(f".{name}" for name in export.FORMATS)
        raise UserError(f"{flag}: the ending must be one of {endings}.")
    card = export.card_beside(output)
    inputs = [
        file
        for path in map(files.expand, arguments)
        for file in (path, *path.glob("*"))
    ]
    outputs.check(output, flag=flag, mark=export.FORMATS[kind].mark, inputs=inputs)
    outputs.check(card, flag=flag, mark=export.CARD_MARK, inputs=inputs)
    export.write(combine.load(*arguments), output, format=kind)
    size = output.stat().st_size / 1e6
    console.LOGGER.info(f"Wrote {output} ({size:.2f} MB), and a card, {card}.")
