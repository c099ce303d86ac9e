"""What a network takes and returns, and the loss that is usually computed from it."""

from collections.abc import Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Integer

Images = Float[Array, "batch height width channels"]
Labels = Integer[Array, " batch"]
Logits = Float[Array, "batch classes"]
Maps = Float[Array, "batch _ _ _"]
"""Images, or the output of a layer."""


class Outputs(NamedTuple):
    """The logits of a batch, and other outputs that the network's own loss needs.

    `extra` may hold the logits of an auxiliary classifier, or reconstructed images.
    """

    logits: Logits
    extra: Mapping[str, Array] = {}


def cross_entropy(
    logits: Logits, labels: Labels, *, smoothing: float = 0.0
) -> Float[Array, " batch"]:
    """Return the cross-entropy of each image, in nats.

    `smoothing` is the share of the label that is spread evenly over all classes.

    Szegedy et al., 2016: https://arxiv.org/abs/1512.00567
    """
    labels = labels.astype(jnp.int32)
    if smoothing == 0:
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels)
    one_hot = jax.nn.one_hot(labels, logits.shape[-1], dtype=logits.dtype)
    return optax.softmax_cross_entropy(logits, optax.smooth_labels(one_hot, smoothing))
