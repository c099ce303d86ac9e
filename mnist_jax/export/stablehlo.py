"""StableHLO: the network as XLA's own program, for any machine that has JAX or XLA."""

import jax
import jax.numpy as jnp
from jax import export

from mnist_jax.export import network
from mnist_jax.runs.load import Run

PLATFORMS = ("cpu", "cuda", "tpu")


def to_bytes(run: Run) -> bytes:
    """Serialise a network by `jax.export`: one program for all of `PLATFORMS`.

    It maps uint8 images [n, 28, 28], for any n, to probabilities [n, classes].
    """
    (count,) = export.symbolic_shape("n")
    images = jax.ShapeDtypeStruct((count, *network.INPUT_SHAPE), jnp.uint8)
    probabilities = network.make_probabilities(run)

    def mnist_jax(images: jax.Array) -> jax.Array:  # the name of the program
        return probabilities(images)

    exported = export.export(jax.jit(mnist_jax), platforms=PLATFORMS)(images)
    return bytes(exported.serialize())
