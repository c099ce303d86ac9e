"""Weights to test with."""

from typing import Any

import jax


def draw_weights(model, seed=0) -> tuple[Any, Any]:
    """Draw parameters and BatchNorm statistics: other numbers than a run's."""
    # With keys of this kind, it compiles in a fifth of the time.
    return jax.jit(model.init)(jax.random.key(seed, impl="rbg"))
