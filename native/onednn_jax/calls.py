"""Calls of the handlers that XLA knows after `load`."""

from typing import Any

import jax
from jax.typing import DTypeLike


def call(name: str, out: Any, *arguments: jax.Array, **attributes: Any) -> Any:
    """Call a handler whose results have the shapes and types of `out`."""
    handler = jax.ffi.ffi_call(f"onednn_jax_{name}", out, vmap_method="sequential")
    return handler(*arguments, **attributes)


def like(array: jax.Array, dtype: DTypeLike | None = None) -> jax.ShapeDtypeStruct:
    """Return the shape and the type of an array, or its shape and another type."""
    return jax.ShapeDtypeStruct(array.shape, dtype or array.dtype)
