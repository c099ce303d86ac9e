"""Pytrees of parameters: names of leaves, patterns over names, counts, checksums."""

import hashlib
import re
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from mnist_jax.errors import UserError
from mnist_jax.typing import Tree


def name_of(path: tuple[Any, ...]) -> str:
    """Name a leaf of nested dicts: `block1_conv1/kernel`."""
    return "/".join(str(key.key) for key in path)


def count_parameters(*trees: Tree) -> int:
    """Count the numbers in some trees (of arrays, or of their shapes)."""
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
    """Compile regular expressions over the names of parameters.

    Raises:
        UserError: one is none, or it is no list of them.
    """
    check_is_list(patterns, flag=flag)
    compiled = []
    for pattern in patterns:
        try:
            compiled.append(re.compile(pattern))
        except re.error as error:
            raise UserError(
                f"{flag}: {pattern!r} is no regular expression: {error}."
            ) from error
    return compiled


def check_is_list(entries: Sequence[str], *, flag: str) -> None:
    """Refuse a string where a list of strings is meant.

    Raises:
        UserError: with the list that is probably meant.
    """
    if isinstance(entries, str):
        raise UserError(f"{flag}={entries!r}: must be a list, e.g. '(\"{entries}\",)'.")


def check_matches(
    patterns: Sequence[re.Pattern[str]], params: Tree, *, flag: str
) -> None:
    """Refuse expressions that match no parameter.

    Raises:
        UserError: with the layers that there are.
    """
    names = [name_of(path) for path, _ in jax.tree_util.tree_leaves_with_path(params)]
    for pattern in patterns:
        if not any(pattern.match(name) for name in names):
            raise UserError(
                f"{flag}: {pattern.pattern!r} matches no parameter. The layers are "
                f"{', '.join(params)}."
            )
