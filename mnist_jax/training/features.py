"""The output of the frozen first layers of a network, computed once for a phase.

If the first stages of a network are frozen and nothing random precedes their end, their
output for an image is the same in every epoch. A phase then trains the rest of the
network on it: the parameters are the same up to rounding.
"""

import functools
import logging
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from mnist_jax import data, models, tree
from mnist_jax.config import Experiment
from mnist_jax.data import augment
from mnist_jax.devices.compiler import compiler_options
from mnist_jax.training.phase import Phase
from mnist_jax.training.state import TrainState
from mnist_jax.training.step import ApplyFn, Batch, to_input
from mnist_jax.tree import Tree

LOGGER = logging.getLogger(__name__)


def inputs_of_phase(
    config: Experiment,
    model: models.Model,
    phase: Phase,
    dataset: data.Dataset,
    states: Sequence[TrainState],
) -> tuple[ApplyFn, Batch, Batch]:
    """Return the function that a phase trains, and its training and validation inputs.

    These are the network and the images; or the rest of the network and the features,
    if these are the same in every epoch and for all `states`, one for each seed, and
    fit into `config.features_megabytes`.
    """
    train, val = Batch.from_split(dataset.train), Batch.from_split(dataset.val)
    stop = frozen_stages(model, phase, states[0].params)
    wanted = phase.config.reuse_features == "auto"
    if not (stop and wanted and augment.create(config.augment) is None):
        return model.apply, train, val
    megabytes = count_bytes(model, stop, len(train.labels) + len(val.labels)) / 1e6
    reason = ""
    if megabytes > config.features_megabytes:
        reason = (
            f"their features would take {megabytes:.0f} MB, and "
            f"--config.features_megabytes is {config.features_megabytes:g}"
        )
    elif len({_digest(model, stop, state) for state in states}) > 1:
        reason = "they differ from seed to seed"
    LOGGER.info(
        "The frozen layers before %s are computed %s of phase %s%s.",
        model.stages[stop][0],
        "in each epoch" if reason else "once, for all epochs",
        phase.name,
        f": {reason}" if reason else "",
    )
    if reason:
        return model.apply, train, val
    weights = states[0].params, states[0].batch_stats
    size = config.eval_batch_size
    train, val = (compute(model, stop, weights, each, size) for each in (train, val))
    return functools.partial(model.apply, start=stop), train, val


def frozen_stages(model: models.Model, phase: Phase, params: Tree) -> int:
    """Return the number of first stages that a phase does not train.

    It is 0 for a network that defines a loss, which is given the images.
    """
    frozen = phase.groups.frozen_layers(params)
    flags = [all(layer in frozen for layer in stage) for stage in model.stages]
    return 0 if hasattr(model.module, "loss") else [*flags, False].index(False)


def count_bytes(model: models.Model, stop: int, images: int) -> int:
    """Return the bytes of the output of the stages before `stop` for some images."""
    image = jax.ShapeDtypeStruct((1, *model.task.image_shape), jnp.float32)
    run = functools.partial(model.run_until, stop)
    return images * 4 * jax.eval_shape(run, *model.shapes, image).size


def compute(
    model: models.Model,
    stop: int,
    weights: tuple[Tree, Tree],
    batch: Batch,
    batch_size: int,
) -> Batch:
    """Return a batch with features, the output of the stages before `stop` >= 1.

    They are float32; a call computes `batch_size` images.
    """

    def run(params: Tree, batch_stats: Tree, images: jax.Array) -> jax.Array:
        features = model.run_until(stop, params, batch_stats, to_input(images))
        return features.astype(jnp.float32)

    compiled = jax.jit(run, compiler_options=compiler_options())
    images, parts = batch.images, []
    if not isinstance(images, data.Rows):
        images = np.asarray(images)
    size = min(batch_size, len(images))
    for start in range(0, len(images), size):
        # The last call ends with the last image, so that one program serves all calls.
        first = min(start, len(images) - size)
        found = compiled(*weights, images[first : first + size])
        parts.append(found[start - first :])
    return Batch(jnp.concatenate(parts), batch.labels)


def _digest(model: models.Model, stop: int, state: TrainState) -> str:
    """Return a checksum of the weights before `stop`."""
    layers = {layer for stage in model.stages[:stop] for layer in stage}
    parts = [tree.layers(each) for each in (state.params, state.batch_stats)]
    return tree.digest(
        [{k: v for k, v in part.items() if k in layers} for part in parts]
    )
