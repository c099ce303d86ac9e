"""Weights to test with."""

from typing import Any

import jax


def draw_weights(model, seed=0) -> tuple[Any, Any]:
    """Draw parameters and BatchNorm statistics: other numbers than a run's."""
    # With keys of this kind, it compiles in a fifth of the time. Without any
    # optimization, it would take nine seconds for VGG16, not a third of a second.
    init = jax.jit(model.init, compiler_options={"xla_backend_optimization_level": 1})
    return init(jax.random.key(seed, impl="rbg"))
