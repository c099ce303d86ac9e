"""A network as a list of operations, for exporters to translate one by one.

`trace` reads the operations from the jaxpr that JAX makes of the network, so that a new
network needs no exporter of its own. Calls are inlined. Whatever depends on no image is
computed here: BatchNorm in evaluation becomes a product and a sum with two constants.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import export as jax_export
from jax.extend import core

from mnist_jax import tree
from mnist_jax.errors import UserError
from mnist_jax.tree import Tree

ELEMENTWISE = frozenset(
    "abs add convert_element_type div erf erfc exp integer_pow log logistic max min "
    "mul neg pow rsqrt sqrt square sub tanh".split()
)
"""Primitives that compute each number of the output from those at the same place."""

# Primitives that stand for the jaxpr inside them.
_CALLS = frozenset(
    "checkpoint closed_call custom_jvp_call custom_vjp_call jit pjit remat2".split()
)

# Primitives that return their input as it is.
_IDENTITIES = frozenset(("copy", "stop_gradient"))

Shape = tuple[int | None, ...]
"""Sizes of the axes. None is the number of images, or a multiple of it."""


class UnsupportedError(UserError):
    """A network has an operation that a format, or its exporter, lacks."""


@dataclasses.dataclass(frozen=True, eq=False)
class Value:
    """What an operation computes: an array that depends on the images."""

    shape: Shape


@dataclasses.dataclass(frozen=True, eq=False)
class Constant:
    """An array that is the same for all images.

    Attributes:
        array: its values. Where an elementwise operation takes it, an axis of size 1
            may stand for any size, as in NumPy's broadcasting.
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
    """One step of a network.

    Attributes:
        name: of the JAX primitive.
        inputs: in the primitive's order.
        output: what it computes.
        params: the primitive's parameters.
    """

    name: str
    inputs: tuple[Value | Constant, ...]
    output: Value
    params: dict[str, Any]

    def unsupported(self, where: str, reason: str = "") -> UnsupportedError:
        """Return the error to raise where it cannot be translated."""
        shapes = ", ".join(str(list(x.shape)) for x in self.inputs)
        return UnsupportedError(
            f"This network cannot be exported as {where}: no translation of the "
            f"operation {self.name} of {shapes}{reason and f', {reason}'}. "
            "--format=stablehlo has every operation."
        )


@dataclasses.dataclass(frozen=True)
class Graph:
    """A network: `operations`, in the order of computation, lead from input to output.

    Attributes:
        input: the images, uint8.
        operations: each uses what came before it.
        output: what the network returns.
    """

    input: Value
    operations: list[Operation]
    output: Value


def trace(
    function: Callable[[Tree, Any], Any], variables: Tree, shape: tuple[int, ...]
) -> Graph:
    """Read the operations of a function of any number of images.

    Args:
        function: `(variables, images) -> array`.
        variables: its parameters, which become constants.
        shape: of one image.

    Raises:
        UnsupportedError: the function has an operation of several results, such as a
            loop, or rearranges a constant that was repeated for each image.
    """
    (count,) = jax_export.symbolic_shape("n")
    images = jax.ShapeDtypeStruct((count, *shape), jnp.uint8)
    closed = jax.make_jaxpr(function)(variables, images)
    constants = [
        Constant(np.asarray(leaf), tree.name_of(path[1:]))
        for path, leaf in jax.tree_util.tree_leaves_with_path(variables)
    ]
    start = Value((None, *shape))
    operations: list[Operation] = []
    (output,) = _read(closed, [*constants, start], operations)
    if isinstance(output, Constant):
        raise UnsupportedError("This network cannot be exported: it ignores images.")
    return Graph(start, operations, output)


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
        raise operation.unsupported("a list of operations")
    repeated = [
        _shape(atom.aval) != operand.shape
        for atom, operand in zip(equation.invars, inputs, strict=True)
    ]
    arrays = [x.array for x in inputs if isinstance(x, Constant)]
    if len(arrays) == len(inputs):
        if name == "broadcast_in_dim" and None in shape:
            sizes = [1] * len(shape)
            for axis, size in zip(
                params["broadcast_dimensions"], arrays[0].shape, strict=True
            ):
                sizes[axis] = size
            return Constant(arrays[0].reshape(sizes))
        if None not in shape and not any(repeated):
            return _constant(
                equation.primitive.bind(*map(jnp.asarray, arrays), **params)
            )
    if any(repeated) and name not in ELEMENTWISE:
        raise operation.unsupported("a list of operations", "of a repeated constant")
    operations.append(operation)
    return operation.output


def _constant(array: Any) -> Constant:
    return Constant(np.asarray(array))


def _shape(aval: Any) -> Shape:
    return tuple(size if isinstance(size, int) else None for size in aval.shape)
