"""What a frozen first part of a network makes of the images, computed once.

Where the first stages of a network are frozen and nothing random stands before their
end, they give the same for an image in every epoch. A phase then trains on that: the
same parameters come out, to rounding, and an epoch costs what the rest of the network
does.

The features are kept in the cache folder, for other seeds and for a run that goes on.
Their file is named by the checksum of everything that they depend on, so that it cannot
be taken for another, and carries one of its own numbers.
"""

import functools
import hashlib
import logging
from collections.abc import Sequence
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import safetensors
import safetensors.numpy

from mnist_jax import data, files, models, tree
from mnist_jax.config import Experiment
from mnist_jax.data import augment
from mnist_jax.devices import parallel, processes
from mnist_jax.devices.parallel import Devices
from mnist_jax.training.evaluator import Evaluator
from mnist_jax.training.phase import Phase
from mnist_jax.training.state import TrainState
from mnist_jax.training.step import ApplyFn, Batch
from mnist_jax.tree import Tree

LOGGER = logging.getLogger(__name__)

_SUFFIX = ".features.safetensors"
# Together; beyond that the files that were not read for longest are removed.
_MOST_BYTES = 4 * 10**9
_NAME = "features"


def inputs_of_phase(
    config: Experiment,
    model: models.Model,
    phase: Phase,
    dataset: data.Dataset,
    states: Sequence[TrainState],
) -> tuple[ApplyFn, Batch, Batch]:
    """Return what a phase computes in each epoch, and on what.

    That is the network and the images, unless a frozen first part of the network gives
    the same features each time and these fit in `config.features_megabytes`: then the
    rest of the network, and the features.

    Args:
        config: the experiment.
        model: the network.
        phase: one of the experiment's.
        dataset: the images.
        states: of the replicas at the beginning of the phase, which share the features.
    """
    train, val = Batch.from_split(dataset.train), Batch.from_split(dataset.val)
    current = states[0]
    stop = frozen_stages(model, phase, current.params)
    if not (
        stop
        and phase.config.reuse_features == "auto"
        and augment.create(config.augment) is None
    ):
        return model.apply, train, val
    size = count_bytes(model, stop, len(train.labels) + len(val.labels)) / 1e6
    reason = ""
    if size > config.features_megabytes:
        reason = (
            f"their features would take {size:.0f} MB, and --config.features_megabytes "
            f"is {config.features_megabytes:g}"
        )
    elif len({_digest(model, stop, s.params, s.batch_stats) for s in states}) > 1:
        reason = "they differ from seed to seed"
    first = model.stages[stop][0]
    if reason:
        LOGGER.info(
            "The frozen layers before %s are computed anew in each epoch of phase %s: "
            "%s.",
            first,
            phase.name,
            reason,
        )
        return model.apply, train, val
    LOGGER.info(
        "The frozen layers before %s are computed once, for all epochs of phase %s.",
        first,
        phase.name,
    )
    known = Features(
        model,
        stop,
        current.params,
        current.batch_stats,
        devices=parallel.every(config.parallel),
        batch_size=config.eval_batch_size,
    )
    apply_fn = functools.partial(model.apply, start=stop)
    return apply_fn, known.of(train), known.of(val)


def frozen_stages(model: models.Model, phase: Phase, params: Tree) -> int:
    """Return how many of the network's first stages a phase leaves as they are."""
    if not phase.freeze:
        return 0
    frozen = phase.freeze.layers(params)
    flags = [all(layer in frozen for layer in stage) for stage in model.stages]
    return flags.index(False) if False in flags else 0


def count_bytes(model: models.Model, stop: int, images: int) -> int:
    """Return the bytes of the features of some images, without computing any.

    Args:
        model: the network.
        stop: index in its `stages`, at least 1.
        images: how many.
    """
    image = jax.ShapeDtypeStruct((1, *model.task.image_shape), jnp.float32)
    run = functools.partial(model.run_until, stop)
    of_one = jax.eval_shape(run, *model.shapes, image)
    return images * of_one.size * jnp.float32.dtype.itemsize


class Features:
    """Computes, or finds again, what the stages before `stop` make of images.

    Args:
        model: the network.
        stop: index in its `stages`, at least 1.
        params: its parameters.
        batch_stats: its statistics.
        devices: which ones share a batch.
        batch_size: images a call.
    """

    def __init__(
        self,
        model: models.Model,
        stop: int,
        params: Tree,
        batch_stats: Tree,
        *,
        devices: Devices,
        batch_size: int,
    ):
        self._weights = (params, batch_stats)
        self._depends_on = "\n".join(
            [
                str(model.module),
                str(stop),
                *_digest(model, stop, params, batch_stats),
                str(model.convolutions),
                jax.default_backend(),
                jax.__version__,
            ]
        )
        self._evaluator = Evaluator(
            functools.partial(_run_until, model, stop),
            _no_loss,
            batch_size=batch_size,
            devices=devices,
        )

    def of(self, split: Batch) -> Batch:
        """Return the split with features, float32, in place of its images."""
        images = np.asarray(split.images)
        # The others of several processes could find what one does not, and wait for it.
        path = self._path(images) if processes.count() == 1 else None
        known = _read(path) if path else None
        if known is not None:
            return Batch(jax.device_put(known), split.labels)
        found = self._evaluator.logits(*self._weights, split.images)
        if path:
            _write(path, np.asarray(found))
        return Batch(found, split.labels)

    def _path(self, images: np.ndarray) -> Path:
        digest = hashlib.sha256(self._depends_on.encode())
        digest.update(f"{images.shape} {images.dtype}".encode())
        digest.update(np.ascontiguousarray(images).data)
        return files.cache_folder() / f"{digest.hexdigest()[:32]}{_SUFFIX}"


def _digest(
    model: models.Model, stop: int, params: Tree, batch_stats: Tree
) -> tuple[str, str]:
    """Return checksums of the weights before `stop`: parameters, statistics."""
    layers = [layer for stage in model.stages[:stop] for layer in stage]
    return (
        tree.digest({layer: params[layer] for layer in layers}),
        tree.digest({k: v for k, v in batch_stats.items() if k in layers}),
    )


def _no_loss(
    outputs: models.Outputs, images: jax.Array, labels: jax.Array
) -> jax.Array:
    """Return zeros: features have no loss."""
    del outputs, images
    return jnp.zeros(labels.shape)


def _run_until(
    model: models.Model,
    stop: int,
    params: Tree,
    batch_stats: Tree,
    images: jax.Array,
    *,
    train: bool,
    labels: jax.Array,
) -> tuple[models.Outputs, Tree]:
    """Adapt `Model.run_until` to the signature of `Model.apply`."""
    del train, labels
    x = model.run_until(stop, params, batch_stats, images)
    return models.Outputs(x.astype(jnp.float32)), batch_stats


def _read(path: Path) -> np.ndarray | None:
    """Return the features in a file; None if it is not there, or not whole."""
    if not path.exists():
        return None
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            features = file.get_tensor(_NAME)
            if file.metadata()["sha256"] != hashlib.sha256(features.data).hexdigest():
                raise ValueError("its numbers are not those that were written")
        path.touch()
    except (safetensors.SafetensorError, OSError, ValueError, KeyError) as error:
        LOGGER.warning("%s is damaged (%s): computed anew.", path, error)
        return None
    LOGGER.info("Features of the frozen layers: as computed before, in %s.", path)
    return features


def _write(path: Path, features: np.ndarray) -> None:
    """Keep features for the next time, if the disk has room for them."""
    features = np.ascontiguousarray(features)
    checksum = hashlib.sha256(features.data).hexdigest()
    content = safetensors.numpy.save({_NAME: features}, metadata={"sha256": checksum})
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with files.atomic_writer(path) as file:
            file.write(content)
        kept = sorted(path.parent.glob(f"*{_SUFFIX}"), key=lambda p: -p.stat().st_mtime)
        total = 0
        for each in kept:
            total += each.stat().st_size
            if total > _MOST_BYTES and each != path:
                each.unlink()
    except OSError as error:
        LOGGER.warning(
            "The features of the frozen layers are not kept for another run: %s cannot "
            "be written (%s).",
            path,
            error.strerror or error,
        )
