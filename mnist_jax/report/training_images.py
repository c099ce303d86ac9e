"""Pictures of the training images, written before the training."""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mnist_jax import data, report
from mnist_jax.config import Experiment
from mnist_jax.data import augment
from mnist_jax.devices.compiler import short_program_options
from mnist_jax.training.keys import make_keys
from mnist_jax.training.step import to_input

_VERSIONS = 8


def write(folder: Path, config: Experiment, dataset: data.Dataset) -> None:
    """Write figures/samples.png and, with augmentation, figures/augmented.png.

    Args:
        folder: the run folder.
        config: of the run.
        dataset: its images.
    """
    train = dataset.train
    about: dict[str, Any] = {
        "run": f"{config.name}, seed {config.seed}",
        "data": dataset.name,
        "classes": dataset.task.classes,
    }
    report.write_samples(folder, train.images, train.labels, **about)
    augment_fn = augment.create(config.augment)
    if augment_fn is None:
        return
    # The first image of each class.
    rows = np.unique(train.labels, return_index=True)[1]
    images = train.images[rows]
    keys = jax.random.split(make_keys(config.seed).step, _VERSIONS)
    function = jax.vmap(augment_fn, in_axes=(0, None), out_axes=1)
    augmented = jax.jit(function, compiler_options=short_program_options())(
        keys, to_input(jnp.asarray(images))
    )
    report.write_augmented(folder, images, augmented, train.labels[rows], **about)
