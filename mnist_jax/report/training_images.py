"""Pictures of the training images, written before the training."""

import functools
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from mnist_jax import data
from mnist_jax.config import Experiment
from mnist_jax.data import augment
from mnist_jax.devices.compiler import short_program_options
from mnist_jax.report import figures
from mnist_jax.report.style import About
from mnist_jax.training.keys import make_keys
from mnist_jax.training.step import to_input

_VERSIONS = 8


def write(folder: Path, config: Experiment, dataset: data.Dataset) -> None:
    """Write figures/samples.png and, with augmentation, figures/augmented.png."""
    train, name = dataset.train, f"{config.name}, seed {config.seed}"
    about = About(name, f"training images of {dataset.name}", dataset.task.classes)
    drawn = {"samples": figures.samples(train.images, train.labels, about)}
    if augment_fn := augment.create(config.augment):
        # The first image of each class.
        rows = np.unique(train.labels, return_index=True)[1]
        images = train.images[rows]
        keys = jax.random.split(make_keys(config.seed).step, _VERSIONS)
        labels = train.labels[rows]
        augment_fn = functools.partial(augment_fn, labels=labels)
        function = jax.vmap(augment_fn, in_axes=(0, None), out_axes=1)
        augmented = jax.jit(function, compiler_options=short_program_options())(
            keys, to_input(jnp.asarray(images))
        )
        drawn["augmented"] = figures.augmented(images, augmented, labels, about)
    for name, figure in drawn.items():
        figures.save(figure, folder / "figures" / f"{name}.png")
