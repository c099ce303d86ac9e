"""JAX's settings, on which results do not depend, whatever changes them."""

import contextlib
from collections.abc import Iterator
from typing import Any

import jax
import jax.experimental

PRNG = "threefry2x32"
"""JAX's default implementation of random numbers."""

# In `jax` since version 0.8.
_x64: Any = jax if hasattr(jax, "enable_x64") else jax.experimental


@contextlib.contextmanager
def defaults() -> Iterator[None]:
    """Use JAX's defaults in a block for everything that changes or prevents results."""
    with (
        _x64.enable_x64(False),
        jax.threefry_partitionable(True),
        jax.default_prng_impl(PRNG),
        jax.numpy_dtype_promotion("standard"),
        jax.debug_nans(False),  # monitors begin with NaN
        jax.debug_infs(False),
        jax.disable_jit(False),  # steps are compiled ahead
    ):
        yield
