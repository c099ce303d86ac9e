"""The numbers that classifiers see: a network's penultimate activations, or pixels."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float32

from mnist_jax.devices import parallel
from mnist_jax.errors import UserError
from mnist_jax.models import Outputs
from mnist_jax.runs.load import Network
from mnist_jax.training.evaluator import Evaluator
from mnist_jax.training.step import to_input

Extractor = Callable[[np.ndarray], Float32[np.ndarray, "n d"]]
"""From images, at least one, to a row of numbers for each."""

INPUTS = "features", "pixels"


def make_extractor(network: Network, inputs: str) -> Extractor:
    """Return the function that computes "features" of a network, or "pixels" in 0..1.

    Features are the activations before the last layer, computed in batches of the same
    size as in the network's run.

    Raises:
        UserError: the network sows no features.
    """
    if inputs == "pixels":
        return lambda images: np.asarray(to_input(jnp.asarray(images))).reshape(
            len(images), -1
        )
    model, config = network.model, network.config
    image = jax.ShapeDtypeStruct((1, *model.task.image_shape), jnp.float32)
    if jax.eval_shape(model.features, *model.shapes, image) is None:
        raise UserError(
            f"{network.path.parent} has no features to classify: {model.name} does not "
            "sow them. docs/extending.md has the line that it needs."
        )

    def apply(params: Any, batch_stats: Any, images: Any, **_: Any) -> Any:
        found: Any = model.features(params, batch_stats, images)
        return Outputs(found.reshape(len(found), -1).astype(jnp.float32)), batch_stats

    evaluator = Evaluator(
        apply,
        lambda outputs, images, labels: jnp.zeros(len(labels)),
        batch_size=config.eval_batch_size,
        devices=parallel.every(config.parallel),
    )
    weights = network.params, network.batch_stats
    return lambda images: np.asarray(evaluator.logits(*weights, images))
