"""JAX's settings: results do not depend on those that a program or a variable changes.

`JAX_THREEFRY_PARTITIONABLE=0`, for example, would draw other random numbers, and
`JAX_ENABLE_X64=1` compute in another type.
"""

import contextlib
from collections.abc import Iterator

import jax
import jax.experimental

PRNG = "threefry2x32"
"""JAX's default implementation of random numbers."""

# In `jax` since version 0.8.
_enable_x64 = getattr(
    jax if hasattr(jax, "enable_x64") else jax.experimental, "enable_x64"
)


@contextlib.contextmanager
def defaults() -> Iterator[None]:
    """Use JAX's defaults for all that changes results, or makes them fail, in a block.

    `JAX_DISABLE_JIT` and `JAX_DEBUG_NANS` are among them: steps are compiled ahead, and
    the monitors of a run begin with NaN. A run checks its losses itself.
    """
    with (
        _enable_x64(False),
        jax.threefry_partitionable(True),
        jax.default_prng_impl(PRNG),
        jax.numpy_dtype_promotion("standard"),
        jax.debug_nans(False),
        jax.debug_infs(False),
        jax.disable_jit(False),
    ):
        yield
