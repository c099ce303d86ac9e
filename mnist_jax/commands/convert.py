"""Convert weights from elsewhere into this project's own format.

  mnist-jax convert IN OUT [--network=vgg19] [--layers=block[12]_]

IN is a file from Keras (.h5, .weights.h5, .keras) or PyTorch (.pth, .safetensors), a
file in our own format, or a run folder; OUT is a safetensors file. The weights are
checked as in training. Use OUT with --config.model.pretrained=OUT.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import NoReturn

import jax
from absl import flags

from mnist_jax import models, pretrained, tree
from mnist_jax.commands import cli
from mnist_jax.config import Model, parse
from mnist_jax.data import DIGITS
from mnist_jax.errors import UserError
from mnist_jax.pretrained import readers
from mnist_jax.runs import weights
from mnist_jax.runs.weights import WeightsError

_NETWORK = flags.DEFINE_string(
    "network",
    "vgg16",
    "The network of IN, if IN is neither a run nor in our own format.",
)
_LAYERS = flags.DEFINE_multi_string(
    "layers",
    [],
    "Regular expression for the parameters that IN must have, matched at the start of "
    "their names; may be given several times. Default: all of a run, the convolutions "
    "of other files.",
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
    tensors, metadata = readers.read(source)
    model = _model(metadata, source)
    patterns = tree.compile_patterns(
        _LAYERS.value or ([".*"] if metadata else ["block"]), flag="--layers"
    )
    params, batch_stats = model.shapes
    tree.check_matches(patterns, params, flag="--layers")
    try:
        found = pretrained.select(
            tensors, metadata, model=model, patterns=patterns, path=source
        )
    except WeightsError as error:
        raise WeightsError(
            f"{error}\n--layers=REGEX says which parameters IN must have."
        ) from None
    metadata = dict(found.metadata)
    if len(found.arrays) < len(jax.tree.leaves((params, batch_stats))):
        # The accuracy is that of the whole network.
        metadata = {key: metadata[key] for key in weights.ORIGIN if key in metadata}
    weights.write(target, found.arrays, metadata)
    count = sum(array.size for array in found.arrays.values())
    print(
        f"Wrote {target}: {len(found.arrays)} arrays, {count:,} numbers of "
        f"{model.name}. Use it with --config.model.pretrained={target}"
    )


def _model(metadata: Mapping[str, str], source: Path) -> models.Model:
    """Build the network of IN, with the options it was trained with."""
    if not metadata and _NETWORK.value not in models.MODELS:
        raise UserError(
            f"--network={_NETWORK.value}: no such network (known: "
            f"{', '.join(sorted(models.MODELS))})."
        )
    fields = weights.model_config(metadata, source) or {"name": _NETWORK.value}
    try:
        return models.create(parse(fields, Model), DIGITS)
    except UserError as error:
        raise WeightsError(
            f"{source} was written by another version: {error}"
        ) from error


def start() -> NoReturn:
    """Parse the flags and run."""
    cli.run(main, usage=__doc__ or "", verb="convert", takes_arguments=True)
