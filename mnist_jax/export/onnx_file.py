"""ONNX: a graph's operations, translated one by one.

ONNX's convolutions and pools take images as NCHW. Each is written with a transpose
before and after it; ONNX Runtime removes those that cancel when it loads the file.
"""

import math
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from mnist_jax.errors import UserError
from mnist_jax.export.graph import Constant, Graph, Operation, Shape, Value

# Old enough for every runtime since 2022, ONNX Runtime Web included.
_OPSET = 17
_IR_VERSION = 8

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
    writer.names[graph.input] = "images"
    for operation in graph.operations:
        name = operation.name
        write = _TRANSLATIONS.get(name) or (_same if name in _SAME else None)
        if write is None:
            raise operation.unsupported()
        writer.names[operation.output] = write(writer, operation)
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
    """The nodes and constants of an ONNX graph, and the names of computed values."""

    def __init__(self):
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[onnx.TensorProto] = []
        self.names: dict[Value, str] = {}

    def add(self, kind: str, *inputs: str, result: str = "", **attributes: Any) -> str:
        """Append a node, and return the name of its output."""
        result = result or f"{kind.lower()}{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, inputs, [result], **attributes))
        return result

    def add_nchw(self, kind: str, x: str, *inputs: str, **attributes: Any) -> str:
        """Append a node that takes and gives NCHW, for values that are NHWC."""
        x = self.add("Transpose", x, perm=(0, 3, 1, 2))
        x = self.add(kind, x, *inputs, **attributes)
        return self.add("Transpose", x, perm=(0, 2, 3, 1))

    def constant(self, array: Any, name: str = "") -> str:
        """Store an array, and return its name."""
        if not name or name in {tensor.name for tensor in self.initializers}:
            name = f"{name or 'constant'}.{len(self.initializers)}"
        array = np.ascontiguousarray(array)
        self.initializers.append(numpy_helper.from_array(array, name))
        return name

    def get(self, operand: Value | Constant) -> str:
        """Return the name of an operand."""
        if isinstance(operand, Value):
            return self.names[operand]
        return self.constant(operand.array, operand.name)


def _same(writer: _Writer, operation: Operation) -> str:
    inputs = (writer.get(x) for x in operation.inputs)
    return writer.add(_SAME[operation.name], *inputs)


def _max(writer: _Writer, operation: Operation) -> str:
    x, other = operation.inputs
    if isinstance(other, Constant) and not other.shape and other.array == 0:
        return writer.add("Relu", writer.get(x))
    return _same(writer, operation)


def _select(writer: _Writer, operation: Operation) -> str:
    which, no, yes = (writer.get(x) for x in operation.inputs)
    return writer.add("Where", which, yes, no)


def _cast(writer: _Writer, operation: Operation) -> str:
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(operation.params["new_dtype"]))
    return writer.add("Cast", writer.get(operation.inputs[0]), to=kind)


def _reshape(writer: _Writer, operation: Operation) -> str:
    (x,) = operation.inputs
    return _to_shape(writer, writer.get(x), x.shape, operation.output.shape, operation)


def _to_shape(
    writer: _Writer, name: str, before: Shape, after: Shape, operation: Operation
) -> str:
    if before == after:
        return name
    # 0 keeps the size of an input's axis, which -1 cannot tell if it is 0 images.
    same_size = math.prod(filter(None, before)) == math.prod(filter(None, after))
    if after.count(None) > 1:
        raise operation.unsupported()
    sizes = [-1 if size is None else size for size in after]
    for axis, pair in enumerate(zip(before, after, strict=False)):
        if same_size and pair == (None, None):
            sizes[axis] = 0
    return writer.add("Reshape", name, writer.constant(np.array(sizes, np.int64)))


def _broadcast(writer: _Writer, operation: Operation) -> str:
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


def _transpose(writer: _Writer, operation: Operation) -> str:
    permutation = operation.params["permutation"]
    return writer.add("Transpose", writer.get(operation.inputs[0]), perm=permutation)


def _pad(writer: _Writer, operation: Operation) -> str:
    x, value = operation.inputs
    low, high, interior = zip(*operation.params["padding_config"], strict=True)
    if any(interior):
        raise operation.unsupported("with padding between the numbers")
    pads = writer.constant(np.array([*low, *high], np.int64))
    return writer.add("Pad", writer.get(x), pads, writer.get(value))


def _slice(writer: _Writer, operation: Operation) -> str:
    (x,), params = operation.inputs, operation.params
    places = range(len(x.shape))
    axes = [axis for axis in places if x.shape[axis] != operation.output.shape[axis]]
    starts, limits = params["start_indices"], params["limit_indices"]
    parts = (
        writer.constant(np.array([values[axis] for axis in axes], np.int64))
        for values in (starts, limits, places, params["strides"] or [1] * len(places))
    )
    return writer.add("Slice", writer.get(x), *parts)


def _concatenate(writer: _Writer, operation: Operation) -> str:
    inputs = (writer.get(x) for x in operation.inputs)
    return writer.add("Concat", *inputs, axis=operation.params["dimension"])


def _reduce(writer: _Writer, operation: Operation) -> str:
    x, axes = writer.get(operation.inputs[0]), operation.params["axes"]
    if operation.name == "reduce_max":
        return writer.add("ReduceMax", x, axes=axes, keepdims=0)
    axes = writer.constant(np.array(axes, np.int64))
    return writer.add("ReduceSum", x, axes, keepdims=0)


def _dot(writer: _Writer, operation: Operation) -> str:
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


def _conv(writer: _Writer, operation: Operation) -> str:
    (x, kernel), params = operation.inputs, operation.params
    assert isinstance(kernel, Constant), "checked by `trace`"
    weights = kernel.array.transpose(params["dimension_numbers"].rhs_spec)
    return writer.add_nchw(
        "Conv",
        writer.get(x),
        writer.constant(weights, kernel.name),
        pads=_pads(params["padding"]),
        strides=params["window_strides"],
        dilations=params["rhs_dilation"],
        group=params["feature_group_count"],
    )


def _pool(writer: _Writer, operation: Operation) -> str:
    x, params = writer.get(operation.inputs[0]), operation.params
    window = params["window_dimensions"][1:3]
    attributes = {
        "kernel_shape": window,
        "strides": params["window_strides"][1:3],
        "pads": _pads(params["padding"][1:3]),
    }
    if operation.name == "reduce_window_max":
        return writer.add_nchw("MaxPool", x, **attributes)
    mean = writer.add_nchw("AveragePool", x, count_include_pad=1, **attributes)
    return writer.add("Mul", mean, writer.constant(np.float32(np.prod(window))))


def _pads(pairs: Any) -> list[int]:
    low, high = zip(*pairs, strict=True)
    return [*map(int, low), *map(int, high)]


_TRANSLATIONS: dict[str, Callable[[_Writer, Operation], str]] = {
    "broadcast_in_dim": _broadcast,
    "concatenate": _concatenate,
    "conv_general_dilated": _conv,
    "convert_element_type": _cast,
    "dot_general": _dot,
    "max": _max,
    "pad": _pad,
    "reduce_max": _reduce,
    "reduce_sum": _reduce,
    "reduce_window_max": _pool,
    "reduce_window_sum": _pool,
    "reshape": _reshape,
    "select_n": _select,
    "slice": _slice,
    "squeeze": _reshape,
    "transpose": _transpose,
}
