"""A network as a list of operations, for exporters to translate one by one.

`trace` reads the operations from the jaxpr of the network, so that a new network needs
no new exporter. Calls are inlined. Whatever depends on no image is computed here:
BatchNorm in evaluation becomes a product and a sum with two constants.
"""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.extend import core

from mnist_jax import tree
from mnist_jax.errors import UserError
from mnist_jax.tree import Tree

ELEMENTWISE = frozenset(
    "abs add convert_element_type div eq erf exp ge gt le log logistic lt max min mul "
    "neg pow select_n sqrt sub tanh".split()
)
"""Primitives that compute each number of the output from those at the same place."""

# Primitives that stand for the jaxpr inside them.
_CALLS = frozenset(
    "checkpoint closed_call custom_jvp_call custom_vjp_call jit pjit remat2".split()
)

# Primitives that return their input as it is.
_IDENTITIES = frozenset(("copy", "stop_gradient"))

# Primitives that NumPy computes to the same bits. JAX compiles them for every shape.
_NUMPY = {
    "add": np.add,
    "div": np.divide,
    "mul": np.multiply,
    "sqrt": np.sqrt,
    "sub": np.subtract,
}


def _argmax(x: jax.Array, *, axes: tuple[int], index_dtype: Any) -> jax.Array:
    others = [axis for axis in range(x.ndim) if axis not in axes]
    size = x.shape[axes[0]]
    from_end = lax.expand_dims(jnp.arange(size, 0.0, -1), others)
    is_largest = x == x.max(axes, keepdims=True)
    first = size - jnp.where(is_largest, from_end, 0.0).max(axes)
    return first.astype(index_dtype)


# Primitives that are replaced by simpler ones.
_SIMPLER: dict[str, Callable[..., Any]] = {
    "argmax": _argmax,
    "erfc": lambda x, **_: 1 - lax.erf(x),
    "expm1": lambda x, **_: jnp.exp(x) - 1,
    "integer_pow": lambda x, y: lax.pow(x, jnp.full_like(x, y)),
    "log1p": lambda x, **_: jnp.log(1 + x),
    "ne": lambda x, y: jnp.where(x == y, 0.0, 1.0) > 0.5,
    "rsqrt": lambda x, **_: 1 / jnp.sqrt(x),
    "split": lambda x, *, sizes, axis: [
        lax.slice_in_dim(x, end - size, end, axis=axis)
        for size, end in zip(sizes, np.cumsum(sizes), strict=True)
    ],
    "square": lambda x, **_: x * x,
}

# Stands for any number of images: a prime number, of which no axis has a multiple.
_MANY = 10_007

Shape = tuple[int | None, ...]
"""Sizes of the axes. None is the number of images, or a multiple of it."""


class UnsupportedError(UserError):
    """A network has an operation that ONNX or pages lack, or that is not translated."""


@dataclasses.dataclass(frozen=True, eq=False)
class Value:
    """The result of an operation: an array that depends on the images."""

    shape: Shape


@dataclasses.dataclass(frozen=True, eq=False)
class Constant:
    """An array that is the same for all images.

    Attributes:
        array: its values, to be broadcast where an elementwise operation takes it.
        name: of the parameter that it is, if it is one.
    """

    array: np.ndarray
    name: str = ""

    @property
    def shape(self) -> Shape:
        """The array's shape."""
        return self.array.shape


@dataclasses.dataclass(frozen=True, eq=False)
class Operation:
    """A JAX primitive with its inputs, result and parameters.

    Those of convolutions and pools are over images, NHWC, with constant kernels.
    """

    name: str
    inputs: tuple[Value | Constant, ...]
    output: Value
    params: dict[str, Any]

    def unsupported(self, reason: str = "") -> UnsupportedError:
        """Return the error to raise where it cannot be translated."""
        shapes = ", ".join(str(list(x.shape)) for x in self.inputs)
        return UnsupportedError(
            f"This network cannot be exported in this format: no translation of the "
            f"operation {self.name} of {shapes}{reason and f', {reason}'}. "
            "A .stablehlo file can hold every operation."
        )


@dataclasses.dataclass(frozen=True)
class Graph:
    """A network: `operations`, in the order of computation, from images to logits."""

    input: Value
    operations: list[Operation]
    output: Value


def trace(
    function: Callable[[Tree, Any], Any],
    variables: Tree,
    shape: tuple[int, ...],
    *,
    count: int | None = None,
) -> Graph:
    """Read the operations of a function of images which its result depends on.

    Args:
        function: `(variables, images) -> array`.
        variables: its parameters, which become constants.
        shape: of one image.
        count: the number of images; by default any.

    Raises:
        UnsupportedError: the function has an operation of several results, such as a
            loop, or rearranges a constant that was repeated for each image.
    """
    images = jax.ShapeDtypeStruct((count or _MANY, *shape), jnp.uint8)
    closed = jax.make_jaxpr(function)(variables, images)
    constants = [
        Constant(np.asarray(leaf), tree.name_of(path[1:]))
        for path, leaf in jax.tree_util.tree_leaves_with_path(variables)
    ]
    start = Value((count, *shape))
    operations: list[Operation] = []
    (output,) = _read(closed, [*constants, start], operations)
    if isinstance(output, Constant):
        raise UnsupportedError("This network cannot be exported: it ignores images.")
    needed: set[Value | Constant] = {output}
    for operation in reversed(operations):
        if operation.output in needed:
            needed.update(operation.inputs)
    return Graph(start, [op for op in operations if op.output in needed], output)


def _read(
    closed: Any, arguments: Sequence[Value | Constant], operations: list[Operation]
) -> list[Value | Constant]:
    """Append the operations of a closed jaxpr, and return its results."""
    known: dict[Any, Value | Constant] = {}
    known |= zip(closed.jaxpr.constvars, map(_constant, closed.consts), strict=True)
    known |= zip(closed.jaxpr.invars, arguments, strict=True)

    def look_up(atom: Any) -> Value | Constant:
        if isinstance(atom, core.Literal):
            aval: Any = atom.aval
            return Constant(np.asarray(atom.val, aval.dtype))
        return known[atom]

    for equation in closed.jaxpr.eqns:
        inputs = [look_up(atom) for atom in equation.invars]
        if equation.primitive.name in _CALLS:
            inner = equation.params.get("jaxpr") or equation.params["call_jaxpr"]
            if not hasattr(inner, "consts"):
                inner = core.ClosedJaxpr(inner, [])
            results = _read(inner, inputs, operations)
        elif equation.primitive.name in _IDENTITIES:
            results = inputs
        elif simpler := _SIMPLER.get(equation.primitive.name):
            simpler = functools.partial(simpler, **equation.params)
            avals = (
                jax.ShapeDtypeStruct(atom.aval.shape, atom.aval.dtype)
                for atom in equation.invars
            )
            results = _read(jax.make_jaxpr(simpler)(*avals), inputs, operations)
        else:
            results = [_step(equation, inputs, operations)]
        known |= zip(equation.outvars, results, strict=True)
    return [look_up(atom) for atom in closed.jaxpr.outvars]


def _step(
    equation: Any, inputs: list[Value | Constant], operations: list[Operation]
) -> Value | Constant:
    """Compute one equation if its inputs are constants; otherwise append it."""
    name, params = equation.primitive.name, equation.params
    shape = _shape(equation.outvars[0].aval)
    operation = Operation(name, tuple(inputs), Value(shape), params)
    if len(equation.outvars) > 1:
        raise operation.unsupported()
    shapes = [_shape(atom.aval) for atom in equation.invars]
    arrays = [x.array for x in inputs if isinstance(x, Constant)]
    if len(arrays) == len(inputs):
        if name == "broadcast_in_dim":
            sizes = [1] * len(shape)
            places = params["broadcast_dimensions"]
            for axis, size in zip(places, arrays[0].shape, strict=True):
                sizes[axis] = size
            return Constant(arrays[0].reshape(sizes))
        if name in ELEMENTWISE:
            if name in _NUMPY and arrays[0].dtype == np.float32:
                return Constant(_NUMPY[name](*arrays))
            arrays = np.broadcast_arrays(*arrays)
            return _constant(equation.primitive.bind(*arrays, **params))
    if name not in ELEMENTWISE:
        for place, (operand, each) in enumerate(zip(inputs, shapes, strict=True)):
            if isinstance(operand, Constant) and operand.shape != each:
                summed = [each[axis] for axis in params.get("axes", ())]
                if name.startswith("reduce") and None not in summed:  # not over images
                    pairs = zip(operand.shape, each, strict=True)
                    each = tuple(own if size is None else size for own, size in pairs)
                if None in each:
                    raise operation.unsupported("of a repeated constant")
                whole = np.broadcast_to(operand.array, each)  # type: ignore
                inputs[place] = _constant(whole)
        if len(arrays) == len(inputs):
            arrays = (x.array for x in inputs if isinstance(x, Constant))
            result = _constant(equation.primitive.bind(*arrays, **params))
            if _MANY in result.shape:
                raise operation.unsupported("which differs with the number of images")
            return result
        operation = dataclasses.replace(operation, inputs=tuple(inputs))
    _check(operation)
    operations.append(operation)
    return operation.output


def _check(operation: Operation) -> None:
    """Raise UnsupportedError for a convolution or pool of an unusual form."""
    params = operation.params
    if operation.name == "conv_general_dilated":
        numbers = params["dimension_numbers"]
        is_usual = (
            numbers.lhs_spec == numbers.out_spec == (0, 3, 1, 2)
            and set(params["lhs_dilation"]) == {1}
            and params["batch_group_count"] == 1
            and isinstance(operation.inputs[1], Constant)
        )
    elif operation.name.startswith("reduce_window"):
        window = params["window_dimensions"]
        dilations = {*params["window_dilation"], *params["base_dilation"]}
        is_usual = len(window) == 4 and window[0] == window[3] == 1 == max(dilations)
    else:
        return
    if not is_usual:
        raise operation.unsupported()


def _constant(array: Any) -> Constant:
    return Constant(np.asarray(array))


def _shape(aval: Any) -> Shape:
    return tuple(size if size % _MANY or not size else None for size in aval.shape)
