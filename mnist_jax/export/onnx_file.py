"""ONNX: a graph's operations, translated one by one.

jax2onnx would do this for any JAX program, but it allows only older versions of orbax
than training needs here, and brings chex, equinox and a viewer along.

ONNX's convolutions and pools want images as NCHW. A value of four axes is therefore
kept in the layout in which it was computed, and transposed only for an operation that
wants the other one.
"""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from mnist_jax.errors import UserError
from mnist_jax.export.graph import (
    ELEMENTWISE,
    Constant,
    Graph,
    Operation,
    Shape,
    Value,
)

# Old enough for every runtime since 2022, ONNX Runtime Web included.
_OPSET = 17
_IR_VERSION = 8

_PLAIN, _NCHW, _NHWC = None, (0, 3, 1, 2), (0, 2, 3, 1)
_Layout = tuple[int, ...] | None

# Primitives that are one operation of ONNX, elementwise.
_SAME = {
    **{name: name.capitalize() for name in "abs add div erf exp log max min".split()},
    **{name: name.capitalize() for name in "mul neg pow sqrt sub tanh".split()},
    **{"eq": "Equal", "ge": "GreaterOrEqual", "gt": "Greater", "le": "LessOrEqual"},
    **{"lt": "Less", "logistic": "Sigmoid"},
}


def to_bytes(graph: Graph, *, metadata: dict[str, str]) -> bytes:
    """Return the ONNX file of a network, from `images` to `probabilities`.

    Args:
        graph: a function of uint8 images to logits.
        metadata: to store in the file.

    Raises:
        UnsupportedError: the graph has an operation that is not translated.
    """
    writer = _Writer()
    writer.names[graph.input, _PLAIN] = "images"
    for operation in graph.operations:
        writer.translate(operation)
    writer.add("Softmax", writer.get(graph.output), result="probabilities", axis=-1)
    model = helper.make_model(
        helper.make_graph(
            writer.nodes,
            "mnist_jax",
            [_describe("images", TensorProto.UINT8, graph.input.shape)],
            [_describe("probabilities", TensorProto.FLOAT, graph.output.shape)],
            writer.initializers,
        ),
        opset_imports=[helper.make_opsetid("", _OPSET)],
        ir_version=_IR_VERSION,
        producer_name="mnist_jax",
    )
    helper.set_model_props(model, metadata)
    onnx.checker.check_model(model, full_check=True)
    return model.SerializeToString()


def check(content: bytes, function: Callable[..., Any], shape: tuple[int, ...]) -> None:
    """Compare ONNX Runtime with a function on a few images of noise.

    Args:
        content: of an ONNX file.
        function: of uint8 images, which JAX can trace; has the right results.
        shape: of one image.

    Raises:
        UserError: the two differ by more than rounding.
    """
    images = np.random.default_rng(0).integers(0, 256, (8, *shape), np.uint8)
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    found = np.asarray(session.run(None, {"images": images})[0])
    with jax.default_matmul_precision("highest"):
        wanted = np.asarray(jax.jit(function)(images))
    if not np.allclose(found, wanted, rtol=0, atol=1e-3):
        raise UserError(
            f"onnxruntime {onnxruntime.__version__} computes other probabilities than "
            f"JAX, by {np.abs(found - wanted).max():.1g}, so nothing was written. Try "
            "another version: pip install --upgrade onnxruntime"
        )


def _describe(name: str, kind: int, shape: Shape) -> onnx.ValueInfoProto:
    sizes = ["n" if size is None else size for size in shape]
    return helper.make_tensor_value_info(name, kind, sizes)


class _Writer:
    """The nodes of an ONNX graph while it is written.

    Attributes:
        nodes: in the order of computation.
        initializers: the constants.
        names: of the computed values, in each layout that they were computed in.
    """

    def __init__(self):
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[onnx.TensorProto] = []
        self.names: dict[tuple[Value, _Layout], str] = {}

    def add(self, kind: str, *inputs: str, result: str = "", **attributes: Any) -> str:
        """Append a node, and return the name of its output."""
        result = result or f"{kind.lower()}{len(self.nodes)}"
        node = helper.make_node(kind, inputs, [result], **attributes)
        self.nodes.append(node)
        return result

    def constant(self, array: Any, name: str = "") -> str:
        """Store an array, and return its name."""
        if not name or name in {tensor.name for tensor in self.initializers}:
            name = f"{name or 'constant'}.{len(self.initializers)}"
        array = np.ascontiguousarray(array)
        self.initializers.append(numpy_helper.from_array(array, name))
        return name

    def get(self, operand: Value | Constant, layout: _Layout = _PLAIN) -> str:
        """Return the name of an operand in a layout, transposing it if necessary."""
        if isinstance(operand, Constant):
            array = operand.array
            if layout and array.ndim == len(layout):
                array = array.transpose(layout)
            return self.constant(array, operand.name)
        if (operand, layout) not in self.names:
            other = self.names[operand, _NCHW if layout is _PLAIN else _PLAIN]
            permutation = layout or _NHWC
            name = self.add("Transpose", other, perm=permutation)
            self.names[operand, layout] = name
        return self.names[operand, layout]

    def translate(self, operation: Operation) -> None:
        """Append the nodes of one operation."""
        layout = _PLAIN
        if operation.name in ELEMENTWISE:
            if any((x, _NCHW) in self.names for x in operation.inputs):
                layout = _NCHW
        elif operation.name in _ON_IMAGES:
            layout = _NCHW
        write = _ON_IMAGES.get(operation.name) or _OTHERS.get(operation.name)
        write = write or (_same if operation.name in _SAME else None)
        if write is None:
            raise operation.unsupported("ONNX")
        self.names[operation.output, layout] = write(self, operation, layout)


def _same(writer: _Writer, operation: Operation, layout: _Layout) -> str:
    inputs = (writer.get(x, layout) for x in operation.inputs)
    return writer.add(_SAME[operation.name], *inputs)


def _max(writer: _Writer, operation: Operation, layout: _Layout) -> str:
    x, other = operation.inputs
    if isinstance(other, Constant) and not other.shape and other.array == 0:
        return writer.add("Relu", writer.get(x, layout))
    return _same(writer, operation, layout)


def _select(writer: _Writer, operation: Operation, layout: _Layout) -> str:
    which, no, yes = (writer.get(x, layout) for x in operation.inputs)
    return writer.add("Where", which, yes, no)


def _cast(writer: _Writer, operation: Operation, layout: _Layout) -> str:
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(operation.params["new_dtype"]))
    return writer.add("Cast", writer.get(operation.inputs[0], layout), to=kind)


def _reshape(writer: _Writer, operation: Operation, layout: _Layout) -> str:
    (x,) = operation.inputs
    return _to_shape(writer, writer.get(x), x.shape, operation.output.shape, operation)


def _to_shape(
    writer: _Writer, name: str, before: Shape, after: Shape, operation: Operation
) -> str:
    if before == after:
        return name
    # 0 keeps the size of an input's axis, which -1 cannot tell if it is 0 images.
    unknown = 0 if before[:1] == after[:1] else -1
    if after.count(None) > 1 or (unknown == 0 and None in after[1:]):
        raise operation.unsupported("ONNX")
    sizes = [unknown if size is None else size for size in after]
    return writer.add("Reshape", name, writer.constant(np.array(sizes, np.int64)))


def _broadcast(writer: _Writer, operation: Operation, layout: _Layout) -> str:
    (x,), shape = operation.inputs, operation.output.shape
    before: list[int | None] = [1] * len(shape)
    for axis, size in zip(
        operation.params["broadcast_dimensions"], x.shape, strict=True
    ):
        before[axis] = size
    name = _to_shape(writer, writer.get(x), x.shape, tuple(before), operation)
    if tuple(before) == shape:
        return name
    # A size of 1 leaves an axis as it is.
    sizes = np.array([size or 1 for size in shape], np.int64)
    return writer.add("Expand", name, writer.constant(sizes))


def _transpose(writer: _Writer, operation: Operation, layout: _Layout) -> str:
    permutation = operation.params["permutation"]
    return writer.add("Transpose", writer.get(operation.inputs[0]), perm=permutation)


def _pad(writer: _Writer, operation: Operation, layout: _Layout) -> str:
    x, value = operation.inputs
    low, high, interior = zip(*operation.params["padding_config"], strict=True)
    if any(interior):
        raise operation.unsupported("ONNX", "with padding between the numbers")
    pads = writer.constant(np.array([*low, *high], np.int64))
    return writer.add("Pad", writer.get(x), pads, writer.get(value))


def _slice(writer: _Writer, operation: Operation, layout: _Layout) -> str:
    (x,), params = operation.inputs, operation.params
    limits = [
        np.iinfo(np.int64).max if size is None else limit
        for size, limit in zip(x.shape, params["limit_indices"], strict=True)
    ]
    axes = range(len(limits))
    steps = params["strides"] or [1] * len(limits)
    parts = (params["start_indices"], limits, axes, steps)
    names = (writer.constant(np.array(part, np.int64)) for part in parts)
    return writer.add("Slice", writer.get(x), *names)


def _concatenate(writer: _Writer, operation: Operation, layout: _Layout) -> str:
    inputs = (writer.get(x) for x in operation.inputs)
    return writer.add("Concat", *inputs, axis=operation.params["dimension"])


def _reduce(writer: _Writer, operation: Operation, layout: _Layout) -> str:
    x, axes = writer.get(operation.inputs[0]), operation.params["axes"]
    if operation.name == "reduce_max":
        return writer.add("ReduceMax", x, axes=axes, keepdims=0)
    axes = writer.constant(np.array(axes, np.int64))
    return writer.add("ReduceSum", x, axes, keepdims=0)


def _dot(writer: _Writer, operation: Operation, layout: _Layout) -> str:
    left, right = operation.inputs
    numbers = operation.params["dimension_numbers"]
    (left_summed, right_summed), (left_batch, right_batch) = numbers
    names = writer.get(left), writer.get(right)
    is_product = (len(left.shape), len(right.shape)) == (2, 2)
    if is_product and (*left_summed, *right_summed) == (1, 0):
        return writer.add("MatMul", *names)
    letters = iter("abcdefghijklmnopqrstuvwxyz")
    of_left = [next(letters) for _ in left.shape]
    of_right = [next(letters) for _ in right.shape]
    pairs = (*left_summed, *left_batch), (*right_summed, *right_batch)
    for i, j in zip(*pairs, strict=True):
        of_right[j] = of_left[i]
    batch = [of_left[i] for i in left_batch]
    summed = [of_left[i] for i in left_summed]
    rest = [x for x in (*of_left, *of_right) if x not in (*batch, *summed)]
    equation = f"{''.join(of_left)},{''.join(of_right)}->{''.join(batch + rest)}"
    return writer.add("Einsum", *names, equation=equation)


def _conv(writer: _Writer, operation: Operation, layout: _Layout) -> str:
    (x, kernel), params = operation.inputs, operation.params
    numbers = params["dimension_numbers"]
    if not (
        numbers.lhs_spec == numbers.out_spec == _NCHW
        and set(params["lhs_dilation"]) == {1}
        and params["batch_group_count"] == 1
        and isinstance(kernel, Constant)
    ):
        raise operation.unsupported("ONNX")
    weights = kernel.array.transpose(numbers.rhs_spec)
    return writer.add(
        "Conv",
        writer.get(x, _NCHW),
        writer.constant(weights, kernel.name),
        pads=_pads(params["padding"]),
        strides=params["window_strides"],
        dilations=params["rhs_dilation"],
        group=params["feature_group_count"],
    )


def _pool(writer: _Writer, operation: Operation, layout: _Layout) -> str:
    params = operation.params
    window = params["window_dimensions"]
    only_places = len(window) == 4 and window[0] == window[3] == 1
    dilations = (*params["window_dilation"], *params["base_dilation"])
    if not only_places or set(dilations) != {1}:
        raise operation.unsupported("ONNX")
    x = writer.get(operation.inputs[0], _NCHW)
    attributes = {
        "kernel_shape": window[1:3],
        "strides": params["window_strides"][1:3],
        "pads": _pads(params["padding"][1:3]),
    }
    if operation.name == "reduce_window_max":
        return writer.add("MaxPool", x, **attributes)
    mean = writer.add("AveragePool", x, count_include_pad=1, **attributes)
    return writer.add("Mul", mean, writer.constant(np.float32(window[1] * window[2])))


def _pads(pairs: Any) -> list[int]:
    low, high = zip(*pairs, strict=True)
    return [*map(int, low), *map(int, high)]


_Translation = Callable[[_Writer, Operation, _Layout], str]
_ON_IMAGES: dict[str, _Translation] = {
    "conv_general_dilated": _conv,
    "reduce_window_max": _pool,
    "reduce_window_sum": _pool,
}
_OTHERS: dict[str, _Translation] = {
    "broadcast_in_dim": _broadcast,
    "concatenate": _concatenate,
    "convert_element_type": _cast,
    "dot_general": _dot,
    "max": _max,
    "pad": _pad,
    "reduce_max": _reduce,
    "reduce_sum": _reduce,
    "reshape": _reshape,
    "select_n": _select,
    "slice": _slice,
    "squeeze": _reshape,
    "transpose": _transpose,
}
