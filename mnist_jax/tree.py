"""Pytrees of parameters: names of leaves, patterns of names, counts, checksums."""

import hashlib
import re
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from mnist_jax.errors import UserError

Tree = Any
"""A pytree: nested containers of arrays, such as parameters."""


def name_of(path: tuple[Any, ...]) -> str:
    """Return the name of a leaf: `block1_conv1/kernel`."""
    return jax.tree_util.keystr(path, simple=True, separator="/")


def layers(tree: Tree) -> dict[str, dict[str, Any]]:
    """Return the arrays of each layer, by the layer's whole path: `block1/conv2`.

    A layer is a module that itself has arrays: `{"block1": {"conv2": {"kernel":
    ..., "bias": ...}}}` has the one layer `block1/conv2`.
    """
    found: dict[str, dict[str, Any]] = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        found.setdefault(name_of(path[:-1]), {})[path[-1].key] = leaf
    return found


def map_named(function: Callable[[str, Any], Any], tree: Tree) -> Tree:
    """Map `function(name, leaf)` over nested dicts."""
    return jax.tree_util.tree_map_with_path(
        lambda path, leaf: function(name_of(path), leaf), tree
    )


def count_parameters(*trees: Tree) -> int:
    """Count the numbers in trees of arrays or of their shapes."""
    return sum(leaf.size for leaf in jax.tree.leaves(trees))


def digest(tree: Tree) -> str:
    """Return the SHA-256 of a tree: its paths, shapes, dtypes and numbers."""
    sha256 = hashlib.sha256()
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        array = np.ascontiguousarray(leaf)
        name = jax.tree_util.keystr(path)
        sha256.update(f"{name} {array.dtype.str} {array.shape}\n".encode())
        sha256.update(array.tobytes())
    return sha256.hexdigest()


def compile_patterns(patterns: Sequence[str], *, flag: str) -> list[re.Pattern[str]]:
    """Compile regular expressions for names of parameters.

    Raises:
        UserError: one is not valid.
    """
    compiled = []
    for pattern in patterns:
        try:
            compiled.append(re.compile(pattern))
        except re.error as error:
            raise UserError(
                f"{flag}: {pattern!r} is not a regular expression: {error}."
            ) from error
    return compiled


def check_matches(
    patterns: Sequence[re.Pattern[str]], params: Tree, *, flag: str
) -> None:
    """Raise a UserError, with the names of the layers, if a pattern matches nothing."""
    names = [name_of(path) for path, _ in jax.tree_util.tree_leaves_with_path(params)]
    for pattern in patterns:
        if not any(pattern.match(name) for name in names):
            raise UserError(
                f"{flag}: {pattern.pattern!r} matches no parameter. The layers are "
                f"{', '.join(layers(params))}."
            )
