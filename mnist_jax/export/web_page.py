"""HTML: a page to draw a digit in, with the network inside."""

import base64
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
from markupsafe import Markup

from mnist_jax.errors import UserError
from mnist_jax.export.graph import ELEMENTWISE, Constant, Graph, Operation, Value

SHAPE = (28, 28)
"""Height and width of the images that are drawn."""

_MOST_BYTES = 8_000_000  # larger pages load slowly, and each answer takes a second
_PARTS = Path(__file__).with_name("page")
_SCRIPTS = ("network.js", "drawing.js", "sheet.js", "answer.js", "page.js")
_SAME_NUMBERS = ("convert_element_type", "reshape", "squeeze")


def to_bytes(
    graph: Graph, *, classes: tuple[str, ...], facts: Mapping[str, str]
) -> bytes:
    """Return the page of a graph from one uint8 image [1, 28, 28] to logits.

    Raises:
        UnsupportedError: the graph has an operation that network.js lacks.
        UserError: the images have another shape, or the page would be larger than 8 MB.
    """
    others = "A .stablehlo file can hold any network."
    if graph.input.shape != (1, *SHAPE):
        shape = "x".join(map(str, graph.input.shape[1:]))
        raise UserError(
            f"A page to draw on needs a network of 28x28 grey images, not {shape}. "
            + others
        )
    inputs = (x for operation in graph.operations for x in operation.inputs)
    numbers = sum(x.array.size for x in inputs if isinstance(x, Constant))
    # Four bytes each, of which base64 makes 16/3.
    if (size := numbers * 16 // 3) > _MOST_BYTES:
        raise UserError(
            f"A page with this network would have {size / 1e6:.0f} MB, and "
            f"{_MOST_BYTES / 1e6:.0f} is the most, to load fast and keep up with the "
            "pen. mnist-jax demo shows it in a browser and computes outside. " + others
        )
    steps, weights = _steps(graph)
    return assemble(
        _PARTS / "page.html",
        styles=["page.css"],
        scripts=_SCRIPTS,
        classes=classes,
        facts=facts,
        steps=steps,
        weights=base64.b64encode(weights.astype("<f4").tobytes()).decode(),
    )


def assemble(
    template: Path,
    *,
    styles: Sequence[str],
    scripts: Sequence[str],
    classes: Sequence[str],
    **context: Any,
) -> bytes:
    """Return a page to draw on that needs no other file.

    Args:
        template: its HTML, for Jinja. All files are beside it or in page/.
        styles: names of files that are joined as {{ style }}.
        scripts: names of files that are joined as {{ script }}.
        classes: the classes of the drawings.
        **context: other variables of the template.
    """
    loader = jinja2.FileSystemLoader([template.parent, _PARTS])
    pages = jinja2.Environment(loader=loader, autoescape=True, trim_blocks=True)

    def joined(names: Sequence[str]) -> Markup:
        return Markup("\n".join(loader.get_source(pages, name)[0] for name in names))

    text = pages.get_template(template.name).render(
        style=joined(styles),
        script=joined(scripts),
        classes=classes,
        of_digits=tuple(classes) == tuple("0123456789"),
        **context,
    )
    return text.encode()


def _steps(graph: Graph) -> tuple[list[dict[str, Any]], np.ndarray]:
    """Return what network.js computes, and its constants, one after the other."""
    writer = _Writer(graph.input)
    for operation in graph.operations:
        writer.translate(operation)
    if writer.numbers[graph.output] != len(writer.steps):
        raise graph.operations[-1].unsupported("as the last operation")
    weights = np.concatenate([np.ravel(array) for array in writer.constants])
    return writer.steps, weights.astype(np.float32)


class _Writer:
    """The steps for network.js, their constants, and the numbers of their values."""

    def __init__(self, image: Value):
        self.steps: list[dict[str, Any]] = []
        self.constants: list[np.ndarray] = []
        self.numbers: dict[Value, int] = {image: 0}

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

    def add(self, name: str, *inputs: int | list[int], **fields: Any) -> int:
        """Append a step, and return the number of its value."""
        self.steps.append({"name": name, "inputs": inputs} | fields)
        return len(self.steps)

    def view(
        self, operand: Value | Constant, shape: Sequence[int], strides: Sequence[int]
    ) -> int | list[int]:
        """Append a copy of the numbers that are some strides apart, if necessary."""
        if tuple(strides) == _strides(shape):
            return self.get(operand)
        return self.add("view", self.get(operand), shape=shape, strides=strides)

    def translate(self, operation: Operation) -> None:
        """Append the steps that compute an operation, if any are needed."""
        name, inputs = operation.name, operation.inputs
        if name in _SAME_NUMBERS:
            number = self.get(inputs[0])
        elif name in _OTHERS:
            number = _OTHERS[name](self, operation)
        elif name in ELEMENTWISE:
            parts = [_repeated(self, x, operation.output) for x in inputs]
            number = self.add(name, *parts)
        else:
            raise operation.unsupported()
        assert isinstance(number, int), "constants were computed by `trace`"
        self.numbers[operation.output] = number


def _strides(shape: Sequence[Any]) -> tuple[int, ...]:
    """Return the distance of numbers along each axis; 0 where there is only one."""
    return tuple(
        math.prod(shape[axis + 1 :]) if size > 1 else 0
        for axis, size in enumerate(shape)
    )


def _repeated(
    writer: _Writer, operand: Value | Constant, output: Value
) -> int | list[int]:
    """Return an operand that gives the output's shape if it is repeated evenly."""
    shape = [size for size in operand.shape if size]
    while shape and shape[0] == 1:
        del shape[0]
    whole: Any = output.shape
    if tuple(shape) == whole[len(whole) - len(shape) :]:
        return writer.get(operand)
    return writer.view(operand, whole, _strides(operand.shape))


def _broadcast(writer: _Writer, operation: Operation) -> int | list[int]:
    (x,), shape = operation.inputs, operation.output.shape
    strides = [0] * len(shape)
    axes = operation.params["broadcast_dimensions"]
    for axis, stride in zip(axes, _strides(x.shape), strict=True):
        strides[axis] = stride
    return writer.view(x, shape, strides)  # type: ignore


def _transpose(writer: _Writer, operation: Operation) -> int | list[int]:
    return _moved(writer, operation.inputs[0], operation.params["permutation"])


def _moved(
    writer: _Writer, operand: Value | Constant, axes: Sequence[int]
) -> int | list[int]:
    """Return an operand with its axes in another order."""
    shape: Any = operand.shape
    strides = _strides(shape)
    return writer.view(operand, [shape[i] for i in axes], [strides[i] for i in axes])


def _concatenate(writer: _Writer, operation: Operation) -> int:
    axis = operation.params["dimension"]
    sizes = [math.prod(x.shape[axis:]) for x in operation.inputs]  # type: ignore
    return writer.add("concatenate", *map(writer.get, operation.inputs), sizes=sizes)


def _reduce(writer: _Writer, operation: Operation) -> int:
    (x,), axes = operation.inputs, operation.params["axes"]
    kept = [axis for axis in range(len(x.shape)) if axis not in axes]
    size = math.prod(x.shape[axis] for axis in axes)  # type: ignore
    rows = _moved(writer, x, [*kept, *axes])
    largest = operation.name == "reduce_max"
    return writer.add("reduce", rows, size=size, largest=largest)


def _dot(writer: _Writer, operation: Operation) -> int:
    left, right = operation.inputs
    summed, batch = operation.params["dimension_numbers"]
    counts, parts = [], []
    for x, over, each in zip((left, right), summed, batch, strict=True):
        free = [i for i in range(len(x.shape)) if i not in (*over, *each)]
        counts.append(math.prod(x.shape[i] for i in free))  # type: ignore
        if isinstance(x, Constant):
            parts.append(writer.constant(x.array.transpose(*each, *free, *over)))
        else:
            parts.append(_moved(writer, x, [*each, *free, *over]))
    depth = math.prod(left.shape[i] for i in summed[0])  # type: ignore
    return writer.add("product", *parts, rows=counts[0], columns=counts[1], depth=depth)


def _conv(writer: _Writer, operation: Operation) -> int:
    (x, kernel), params = operation.inputs, operation.params
    assert isinstance(kernel, Constant), "checked by `trace`"
    if set(params["rhs_dilation"]) != {1}:
        raise operation.unsupported("with dilation")
    channels_out, channels, height, width = params["dimension_numbers"].rhs_spec
    weights = kernel.array.transpose(channels_out, height, width, channels)
    return writer.add(
        "conv",
        writer.get(x),
        writer.constant(weights),
        size=x.shape[1:],
        window=weights.shape[1:3],
        stride=params["window_strides"],
        before=[int(before) for before, _ in params["padding"]],
        groups=params["feature_group_count"],
        result=operation.output.shape[1:],
    )


def _slice(writer: _Writer, operation: Operation) -> int:
    (x,), params = operation.inputs, operation.params
    steps = params["strides"] or [1] * len(x.shape)
    before = _strides(x.shape)
    return writer.add(
        "view",
        writer.get(x),
        shape=operation.output.shape,
        strides=[stride * step for stride, step in zip(before, steps, strict=True)],
        start=int(np.dot(params["start_indices"], before)),
    )


def _pad(writer: _Writer, operation: Operation) -> int:
    (x, fill), config = operation.inputs, operation.params["padding_config"]
    outwards = all(low >= 0 and high >= 0 and not gap for low, high, gap in config)
    if not outwards or not isinstance(fill, Constant):
        raise operation.unsupported()
    whole: Any = operation.output.shape
    strides = _strides(whole)
    return writer.add(
        "pad",
        writer.get(x),
        shape=x.shape,
        strides=strides,
        start=int(np.dot([low for low, _, _ in config], strides)),
        size=math.prod(whole),
        fill=float(fill.array),
    )


def _pool(writer: _Writer, operation: Operation) -> int:
    (x,), params = operation.inputs, operation.params
    return writer.add(
        "pool",
        writer.get(x),
        largest=operation.name == "reduce_window_max",
        size=x.shape[1:],
        window=params["window_dimensions"][1:3],
        stride=params["window_strides"][1:3],
        before=[int(before) for before, _ in params["padding"][1:3]],
        result=operation.output.shape[1:],
    )


_OTHERS: dict[str, Callable[[_Writer, Operation], int | list[int]]] = {
    "broadcast_in_dim": _broadcast,
    "concatenate": _concatenate,
    "conv_general_dilated": _conv,
    "dot_general": _dot,
    "pad": _pad,
    "reduce_max": _reduce,
    "reduce_sum": _reduce,
    "reduce_window_max": _pool,
    "reduce_window_sum": _pool,
    "slice": _slice,
    "transpose": _transpose,
}
