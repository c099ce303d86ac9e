"""Take a trained network elsewhere: one file in another program's format.

  mnist-jax export [RUN] --output=FILE [--format=onnx|stablehlo|safetensors|html]

RUN is a run folder or its weights.safetensors; without it, the LeNet-5 that comes with
the package is taken. FILE.md is written too, a model card: what the network was trained
on, how accurate it is, what it takes and gives, and how to use it.

  onnx         for ONNX Runtime, also in browsers, and many other programs
  stablehlo    XLA's own program for CPUs, NVIDIA's GPUs and TPUs, without this package
  safetensors  the parameters, for `mnist_jax.load_run`
  html         a page to draw digits in, with the network inside; needs no connection
"""

from pathlib import Path

from absl import flags

from mnist_jax.commands import outputs
from mnist_jax.errors import UserError

_ENDINGS = ["onnx", "stablehlo", "safetensors", "html"]

_FORMAT = flags.DEFINE_enum(
    "format", None, _ENDINGS, "Format of the file. Default: by the ending of --output."
)
_OUTPUT = flags.DEFINE_string(
    "output", None, "The file to write. An earlier export there is replaced."
)


def main(arguments: list[str]) -> None:
    """Export a run."""
    if len(arguments) > 1:
        raise UserError("Name one run at most: mnist-jax export [RUN] --output=FILE")
    if not _OUTPUT.value:
        raise UserError("--output is missing: it names the file to write.")
    output = Path(_OUTPUT.value).expanduser()
    kind = _FORMAT.value or output.suffix.lower().removeprefix(".")
    if kind not in _ENDINGS:
        raise UserError(
            f"--output={output}: its ending names no format. Known: "
            f"{', '.join(f'.{ending}' for ending in _ENDINGS)}; or choose one by "
            "--format."
        )
    # Imported late: they import JAX, and bad flags need not wait for that.
    from mnist_jax import export
    from mnist_jax.runs.load import load

    inputs = [
        file for name in arguments for file in (Path(name), *Path(name).glob("*"))
    ]
    for path, mark in (
        (output, export.FORMATS[kind].mark),
        (export.card_beside(output), export.CARD_MARK),
    ):
        outputs.check(path, flag=f"--output={output}", mark=mark, inputs=inputs)
    run = load(*arguments)
    beside = export.write(run, output, format=kind)
    size = output.stat().st_size
    amount = f"{size / 1e6:.1f} MB" if size >= 1e6 else f"{size / 1e3:.0f} kB"
    print(f"Wrote {output} ({amount}) and its model card, {beside}.")
