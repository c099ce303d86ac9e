"""A trained network in the formats of other programs, each file with a model card."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

from mnist_jax import files
from mnist_jax.errors import UserError
from mnist_jax.export import card, graph, network
from mnist_jax.runs.load import Run

CARD_MARK = b"mnist_jax, the program that trained this network"
"""This is in every model card."""

_TAKES_IMAGES = (
    "It takes\nimages, uint8 [n, 28, 28] with any n, 0 for the background and 255 for "
    "ink, and gives\nfloat32 [n, {classes}], the probability of each class: {names}."
)


@dataclasses.dataclass(frozen=True)
class Format:
    """A format that networks are exported in.

    Attributes:
        make: returns the content of a file.
        contents: what the file is and does, with {classes} and {names}.
        usage: how it is used, with {file}.
        mark: bytes that every file of this format has in it, if we wrote it.
        packages: what has to be installed for it, beside what the package needs.
    """

    make: Callable[[Run], bytes]
    contents: str
    usage: str
    mark: bytes
    packages: tuple[str, ...] = ()


def write(run: Run, path: Path, *, format: str) -> Path:
    """Write a network to a file, and its model card beside it.

    Args:
        run: the network.
        path: the file; an existing one is replaced.
        format: a key of `FORMATS`.

    Returns:
        The card's path: that of the file, and `.md`.

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
            f"--format={format} needs packages that are not installed ({error}): "
            f"pip install {' '.join(chosen.packages)}"
        ) from error
    text = card.text(
        run,
        contents=chosen.contents.format(
            classes=len(run.classes), names=", ".join(run.classes), file=path.name
        ),
        usage=chosen.usage.format(file=path.name),
    )
    with files.atomic_writer(path) as file:
        file.write(content)
    beside = card_beside(path)
    files.write_text(beside, text)
    return beside


def card_beside(path: Path) -> Path:
    """Return the path of the model card of an exported file."""
    return path.with_name(f"{path.name}.md")


def _onnx(run: Run) -> bytes:
    from mnist_jax.export import onnx_file

    content = onnx_file.to_bytes(
        _graph(run),
        metadata={
            "network": run.model.name,
            "classes": json.dumps(run.classes),
            "accuracy": str(run.accuracy),
            "tested_on": run.tested_on,
            "config": json.dumps(card.stored_config(run)),
        },
    )
    onnx_file.check(content, network.make_probabilities(run))
    return content


def _stablehlo(run: Run) -> bytes:
    from mnist_jax.export import stablehlo

    return stablehlo.to_bytes(run)


def _safetensors(run: Run) -> bytes:
    return run.path.read_bytes()  # `load` has checked it


def _html(run: Run) -> bytes:
    from mnist_jax.export import web_page

    known = card.facts(run)
    return web_page.to_bytes(
        _graph(run),
        classes=run.classes,
        facts={
            "network": known.network,
            "parameters": f"{known.parameters:,}",
            "data": known.data,
            "accuracy": known.accuracy,
            "interval": known.interval,
        },
    )


def _graph(run: Run) -> graph.Graph:
    return graph.trace(*network.make_logits(run), network.INPUT_SHAPE)


FORMATS = {
    "onnx": Format(
        make=_onnx,
        contents=f"`{{file}}` holds the network as ONNX. {_TAKES_IMAGES}",
        usage="""\
```python
import numpy as np, onnxruntime
session = onnxruntime.InferenceSession("{file}")
(probabilities,) = session.run(None, {{"images": np.zeros((1, 28, 28), np.uint8)}})
```""",
        mark=b"mnist_jax",
        packages=("onnx", "onnxruntime"),
    ),
    "stablehlo": Format(
        make=_stablehlo,
        contents=(
            "`{file}` holds the network as StableHLO, serialised by `jax.export` for "
            f"CPUs,\nNVIDIA's GPUs and TPUs. {_TAKES_IMAGES}"
        ),
        usage="""\
```python
import pathlib, jax.export, numpy as np
network = jax.export.deserialize(bytearray(pathlib.Path("{file}").read_bytes()))
probabilities = network.call(np.zeros((1, 28, 28), np.uint8))
```""",
        mark=b"mnist_jax",
        packages=("flatbuffers",),
    ),
    "safetensors": Format(
        make=_safetensors,
        contents=(
            "`{file}` holds the network's parameters by their names, and in its "
            f"metadata\nwhat mnist_jax needs to predict with them. {_TAKES_IMAGES}"
        ),
        usage="""\
```python
import mnist_jax, numpy as np
run = mnist_jax.load_run("{file}")
probabilities = run.predict(np.zeros((1, 28, 28), np.uint8))
```""",
        mark=b"mnist_jax_network",
    ),
    "html": Format(
        make=_html,
        contents=(
            "`{file}` is a page to draw digits in, with the network inside. It needs "
            "no\nnetwork connection and sends nothing."
        ),
        usage="Open `{file}` in any browser, on a computer, tablet or phone. It can be "
        "sent\nas an attachment.",
        mark=b'content="mnist-jax export"',
    ),
}
"""What `write` can write, by name, which is also the usual ending."""
