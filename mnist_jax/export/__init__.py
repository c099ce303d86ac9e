"""A trained network in the formats of other programs, each file with a model card."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import jax
import jax.export
import jax.numpy as jnp

from mnist_jax import files
from mnist_jax.devices import settings
from mnist_jax.errors import UserError
from mnist_jax.export import card, graph, network
from mnist_jax.runs.load import Network
from mnist_jax.runs.trained import Trained


class Format(NamedTuple):
    """A format that networks are exported in.

    Attributes:
        make: returns the content of a file.
        mark: bytes that every file of this format has in it, if we wrote it.
        packages: the ones that it needs beside the requirements of this package.
    """

    make: Callable[[Trained], bytes]
    mark: bytes = b"mnist_jax"
    packages: tuple[str, ...] = ()


@settings.defaults()
def write(run: Trained, path: Path, *, format: str) -> Path:
    """Write a network to a file, and its model card beside it; return the card's path.

    An existing file is replaced. `format` is a key of `FORMATS`.

    Raises:
        UserError: a package is missing, or the network does not fit this format.
    """
    chosen = FORMATS[format]
    try:
        content = chosen.make(run)
    except ImportError as error:
        if not chosen.packages:
            raise
        raise UserError(
            f".{format} needs packages that are not installed ({error}): "
            f"pip install {' '.join(chosen.packages)}"
        ) from error
    shape = network.input_shape(run)
    text = card.text(run, file=path.name, format=format, shape=shape)
    with files.atomic_writer(path) as file:
        file.write(content)
    beside = card_beside(path)
    files.write_text(beside, text)
    return beside


def card_beside(path: Path) -> Path:
    """Return the path of the model card of an exported file: with `.md` at the end."""
    return path.with_name(f"{path.name}.md")


def _onnx(run: Trained) -> bytes:
    from mnist_jax.export import onnx_file

    shape = network.input_shape(run)
    content = onnx_file.to_bytes(
        graph.trace(*network.make_logits(run), shape),
        metadata={
            "network": run.architecture,
            "classes": json.dumps(run.classes),
            "accuracy": str(run.accuracy),
            "tested_on": run.tested_on,
            "config": json.dumps(card.stored_config(run)),
        },
    )
    onnx_file.check(content, network.make_probabilities(run), shape)
    return content


def _stablehlo(run: Trained) -> bytes:
    """Serialise a network by `jax.export`, for any number of images."""
    (count,) = jax.export.symbolic_shape("n")
    images = jax.ShapeDtypeStruct((count, *network.input_shape(run)), jnp.uint8)
    probabilities = network.make_probabilities(run)

    # One by one, since a network may need to know their number, as in len(images).
    def mnist_jax(images: jax.Array) -> jax.Array:  # the export keeps this name
        return jax.vmap(lambda image: probabilities(image[None])[0])(images)

    export = jax.export.export(jax.jit(mnist_jax), platforms=("cpu", "cuda", "tpu"))
    return bytes(export(images).serialize())


def _safetensors(run: Trained) -> bytes:
    if not isinstance(run, Network):
        raise UserError(
            f"{run.path.parent} is no network, and a .safetensors file is for one."
        )
    return run.path.read_bytes()  # `load` has checked it


def _html(run: Trained) -> bytes:
    from mnist_jax.export import web_page

    shape = network.input_shape(run)
    return web_page.to_bytes(
        graph.trace(*network.make_logits(run), shape, count=1),
        classes=run.classes,
        facts=card.facts(run),
    )


FORMATS = {
    "onnx": Format(_onnx, packages=("onnx", "onnxruntime")),
    "stablehlo": Format(_stablehlo, packages=("flatbuffers",)),
    "safetensors": Format(_safetensors, mark=b"mnist_jax_network"),
    "html": Format(_html, mark=b'content="mnist-jax export"'),
}
"""What `write` can write, by name, which is also the usual ending."""

CARD_MARK = b"mnist_jax, the program that trained this network"
"""This is in every model card."""
