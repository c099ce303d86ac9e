"""Sequences of figures to monitor, for our monitors and Keras's callbacks.

Keras computes with Python's numbers, in double precision, where it is given any. Here
it is given `np.float32`, so that it decides in single precision, as the monitors do.
"""

import jax.numpy as jnp
import numpy as np
from hypothesis import strategies as st

LENGTH = 16
# An epoch's figure: one of a few values (so that there are ties), or one so near to
# the best so far that `min_delta` decides, exactly or by one unit in the last place.
GRID = st.integers(1, 4).map(lambda n: ("is", n / 8))
EDGES = st.tuples(st.just("edge"), st.integers(-2, 2))
ODD = st.sampled_from([np.nan, np.inf, -np.inf]).map(lambda x: ("is", x))
EDGY_MOVES = st.lists(
    st.one_of(GRID, EDGES, EDGES, GRID, ODD), min_size=1, max_size=LENGTH
)
# Numbers whose order does not depend on how a difference is rounded.
MOVES = st.lists(GRID, min_size=1, max_size=LENGTH)
BAD = [("is", 0.5)] * LENGTH


def figures(moves, monitor, min_delta):
    """The float32 values that the moves stand for."""
    sign = np.float32(-1 if monitor == "val_accuracy" else 1)
    step = sign * np.float32(min_delta)
    values, best = [], np.float32(0.5)
    for kind, number in moves:
        value = np.float32(number)
        if kind == "edge":
            value = best - step
            if np.isfinite(value):
                for _ in range(abs(number)):
                    value = np.nextafter(value, np.float32(np.inf * number))
        if not values or sign * (value + step) < sign * best:
            best = value
        values.append(value)
    return np.array(values, np.float32)


def padded(values):
    return jnp.asarray(np.resize(values, LENGTH))


def all_figures(monitor, value):
    """The figures of an epoch; all but the monitored one always get better."""
    others = {"train_loss": -jnp.inf, "val_loss": -jnp.inf, "val_accuracy": jnp.inf}
    return {**others, monitor: value}


def mode(monitor):
    return "max" if monitor == "val_accuracy" else "min"
