"""HTML: a page to draw a digit in, with the network inside."""

import base64
import html
import json
import math
import re
from collections.abc import Mapping, Sequence
from importlib import resources
from importlib.resources.abc import Traversable
from typing import Any

import numpy as np

from mnist_jax.errors import UserError
from mnist_jax.export.graph import Constant, Graph, Operation, Shape, Value

MOST_BYTES = 8_000_000
"""Larger pages are refused: they load slowly, and each answer takes a second."""

PARTS = resources.files("mnist_jax.export") / "page"
"""The folder of what pages to draw on consist of."""

_SCRIPTS = ("network.js", "drawing.js", "sheet.js", "answer.js", "page.js")
# The elementwise operations of network.js.
_UNARY = frozenset("abs exp log logistic neg rsqrt sqrt square tanh".split())
_BINARY = frozenset("add div max min mul sub".split())


def to_bytes(graph: Graph, *, classes: tuple[str, ...], facts: dict[str, str]) -> bytes:
    """Return the page of a network.

    Args:
        graph: a function of uint8 images to logits.
        classes: the name of each logit.
        facts: what the page says about the network, by the names in page.html.

    Raises:
        UnsupportedError: the graph has an operation that network.js lacks.
        UserError: the page would be larger than `MOST_BYTES`.
    """
    inputs = (x for operation in graph.operations for x in operation.inputs)
    numbers = sum(x.array.size for x in inputs if isinstance(x, Constant))
    # Four bytes each, of which base64 makes 16/3.
    if (size := numbers * 16 // 3) > MOST_BYTES:
        raise UserError(
            f"A page with this network would have {size / 1e6:.0f} MB, and "
            f"{MOST_BYTES / 1e6:.0f} is the most: it is too large to compute in a "
            "browser with every stroke. --format=onnx or stablehlo hold any network."
        )
    steps, weights = _steps(graph)
    description = json.dumps(
        {"classes": classes, "steps": steps}, separators=(",", ":")
    )
    return assemble(
        PARTS / "page.html",
        styles=[PARTS / "page.css"],
        scripts=[PARTS / name for name in _SCRIPTS],
        facts=facts,
        data={
            "description": description,
            "weights": base64.b64encode(weights.astype("<f4").tobytes()).decode(),
        },
    )


def assemble(
    template: Traversable,
    *,
    styles: Sequence[Traversable],
    scripts: Sequence[Traversable],
    facts: Mapping[str, str],
    data: Mapping[str, str],
) -> bytes:
    """Return a page that needs no other file.

    Args:
        template: its HTML, with the names of what is filled in, as {{style}}, and of
            files of `PARTS`, as {{head.html}}.
        styles: joined and filled in as {{style}}.
        scripts: joined and filled in as {{script}}.
        facts: text by its name in the template.
        data: JSON or base64 inside a script element, by its name in the template.
    """

    def read(part: Traversable) -> str:
        return part.read_text(encoding="utf-8")

    contents = {
        **{name: html.escape(text) for name, text in facts.items()},
        **{name: text.replace("<", "\\u003c") for name, text in data.items()},
        "style": "\n".join(map(read, styles)),
        "script": "\n".join(map(read, scripts)),
    }
    page = re.sub(
        r"{{(\w+\.html)}}\n", lambda name: read(PARTS / name[1]), read(template)
    )
    return re.sub(r"{{(\w+)}}", lambda name: contents[name[1]], page).encode()


def _steps(graph: Graph) -> tuple[list[dict[str, Any]], np.ndarray]:
    """Return what network.js computes, and its constants, one after the other."""
    writer = _Writer(graph.input)
    for operation in graph.operations:
        writer.translate(operation)
    if writer.numbers[graph.output] != len(writer.steps):
        raise graph.operations[-1].unsupported("HTML", "as the last operation")
    weights = np.concatenate([np.ravel(array) for array in writer.constants])
    return writer.steps, weights.astype(np.float32)


class _Writer:
    """The steps of a network while they are written.

    Attributes:
        steps: for network.js.
        constants: the arrays that they use.
        numbers: of the values that the steps compute; that of the images is 0.
    """

    def __init__(self, images: Value):
        self.steps: list[dict[str, Any]] = []
        self.constants: list[np.ndarray] = []
        self.numbers: dict[Value, int] = {images: 0}

    def get(self, operand: Value | Constant) -> int | list[int]:
        """Return the number of a value, or where a constant begins and ends."""
        if isinstance(operand, Value):
            return self.numbers[operand]
        return self.constant(operand.array)

    def constant(self, array: np.ndarray) -> list[int]:
        """Store an array, and return where it begins and ends."""
        start = sum(stored.size for stored in self.constants)
        self.constants.append(array)
        return [start, start + array.size]

    def translate(self, operation: Operation) -> None:
        """Append the step that computes an operation, if any is needed."""
        name, inputs = operation.name, operation.inputs
        if _keeps_numbers(operation):
            self.numbers[operation.output] = self.numbers[inputs[0]]  # type: ignore
            return
        if name in _LAYERS:
            step = _LAYERS[name](self, operation)
        elif name in _UNARY or (name in _BINARY and _repeats_evenly(operation)):
            step = {"name": name, "inputs": [self.get(x) for x in inputs]}
        else:
            raise operation.unsupported("HTML")
        self.steps.append(step)
        self.numbers[operation.output] = len(self.steps)


def _keeps_numbers(operation: Operation) -> bool:
    """Return whether an operation leaves all numbers as they are, in their order."""
    if operation.name == "broadcast_in_dim":
        return _size(operation.inputs[0].shape) == _size(operation.output.shape)
    return operation.name in ("convert_element_type", "reshape", "squeeze")


def _repeats_evenly(operation: Operation) -> bool:
    """Return whether repeating each input gives the output's shape."""

    def stripped(shape: Shape) -> Shape:
        while shape and shape[0] in (1, None):
            shape = shape[1:]
        return shape

    whole = stripped(operation.output.shape)
    parts = [stripped(x.shape) for x in operation.inputs]
    return all(part == whole[len(whole) - len(part) :] for part in parts)


def _size(shape: Shape) -> int:
    """Return how many numbers there are for one image."""
    return math.prod(size or 1 for size in shape)


def _conv(writer: _Writer, operation: Operation) -> dict[str, Any]:
    (x, kernel), params = operation.inputs, operation.params
    numbers = params["dimension_numbers"]
    dilations = (*params["lhs_dilation"], *params["rhs_dilation"])
    if not (
        numbers.lhs_spec == numbers.out_spec == (0, 3, 1, 2)
        and set(dilations) == {1}
        and params["batch_group_count"] == params["feature_group_count"] == 1
        and isinstance(kernel, Constant)
    ):
        raise operation.unsupported("HTML")
    channels_out, channels, height, width = numbers.rhs_spec
    weights = kernel.array.transpose(channels_out, height, width, channels)
    return {
        "name": "conv",
        "inputs": [writer.get(x), writer.constant(weights)],
        "size": x.shape[1:],
        "window": weights.shape[1:3],
        "stride": params["window_strides"],
        "before": [int(before) for before, _ in params["padding"]],
        "result": operation.output.shape[1:],
    }


def _dense(writer: _Writer, operation: Operation) -> dict[str, Any]:
    x, kernel = operation.inputs
    numbers = operation.params["dimension_numbers"]
    shapes = len(x.shape), len(kernel.shape), x.shape[:1]
    if not (
        numbers == (((1,), (0,)), ((), ()))
        and shapes == (2, 2, (None,))
        and isinstance(kernel, Constant)
    ):
        raise operation.unsupported("HTML")
    return {
        "name": "dense",
        "inputs": [writer.get(x), writer.constant(kernel.array.T)],
        "result": operation.output.shape[1:],
    }


def _pad(writer: _Writer, operation: Operation) -> dict[str, Any]:
    (x, fill), config = operation.inputs, operation.params["padding_config"]
    only_places = len(config) == 4 and not any((*config[0], *config[3]))
    outwards = all(low >= 0 and high >= 0 and not gap for low, high, gap in config)
    if not only_places or not outwards or not isinstance(fill, Constant):
        raise operation.unsupported("HTML")
    return {
        "name": "pad",
        "inputs": [writer.get(x)],
        "size": x.shape[1:],
        "before": [int(low) for low, _, _ in config[1:3]],
        "fill": float(fill.array),
        "result": operation.output.shape[1:],
    }


def _pool(writer: _Writer, operation: Operation) -> dict[str, Any]:
    (x,), params = operation.inputs, operation.params
    window = params["window_dimensions"]
    only_places = len(window) == 4 and window[0] == window[3] == 1
    dilations = (*params["window_dilation"], *params["base_dilation"])
    if not only_places or set(dilations) != {1} or np.any(params["padding"]):
        raise operation.unsupported("HTML")
    return {
        "name": "pool",
        "inputs": [writer.get(x)],
        "largest": operation.name == "reduce_window_max",
        "size": x.shape[1:],
        "window": window[1:3],
        "stride": params["window_strides"][1:3],
        "result": operation.output.shape[1:],
    }


_LAYERS = {
    "conv_general_dilated": _conv,
    "dot_general": _dense,
    "pad": _pad,
    "reduce_window_max": _pool,
    "reduce_window_sum": _pool,
}
