"""Convert weights from elsewhere into this project's own format, once.

  mnist-jax convert IN OUT [--network=vgg19] [--layers=block[12]_]

IN is a file of Keras (.h5, .weights.h5), PyTorch (.pth, .safetensors) or a run folder;
OUT is written as safetensors. It is checked as in training; use it with
--config.model.pretrained=OUT.
"""

import dataclasses
from pathlib import Path
from typing import NoReturn

from absl import flags

from mnist_jax import models, pretrained
from mnist_jax.commands import cli
from mnist_jax.config import Model
from mnist_jax.errors import UserError
from mnist_jax.runs import weights
from mnist_jax.runs.folder import RunFolder

_NETWORK = flags.DEFINE_string(
    "network", "vgg16", "What network a file is of; a run folder says it itself."
)
_LAYERS = flags.DEFINE_multi_string(
    "layers",
    [],
    "Regular expression for the parameters that IN must have, matched from the "
    "beginning of their names; may be given several times. Default: the convolutions "
    "of VGG, everything of a run.",
)


def main(arguments: list[str]) -> None:
    """Convert IN to OUT."""
    if len(arguments) != 2:
        raise UserError("Name two files: mnist-jax convert IN OUT")
    source, target = (Path(argument).expanduser() for argument in arguments)
    if not target.parent.is_dir():
        raise UserError(f"{target}: there is no folder {target.parent}.")
    if target.is_dir():
        raise UserError(f"{target} is a folder: give the name of a file.")
    config = _config(source)
    model = models.create(config)
    taken = pretrained.load(config, model)
    assert taken is not None, "the config names a source"
    weights.write(target, taken.arrays, {weights.NETWORK: model.name})
    count = sum(array.size for array in taken.arrays.values())
    print(
        f"Wrote {target}: {len(taken.arrays)} arrays, {count:,} numbers of "
        f"{model.name}. Use it with --config.model.pretrained={target}"
    )


def _config(source: Path) -> Model:
    """Return the network and its weights as the config of an experiment names them."""
    run, layers = RunFolder(source), tuple(_LAYERS.value)
    if source.is_dir() and run.config.exists():
        model, layers = run.read_config().model, layers or (".*",)
    else:
        model, layers = Model(_NETWORK.value), layers or ("block",)
    return dataclasses.replace(model, pretrained=str(source), pretrained_layers=layers)


def start() -> NoReturn:
    """Parse the flags and run."""
    cli.run(main, usage=__doc__ or "", verb="convert", takes_arguments=True)
