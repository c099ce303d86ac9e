"""What tests of the augmentation share: configs, functions, images, statistics."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import scipy.stats

from mnist_jax import config
from mnist_jax.data import augment
from mnist_jax.data.augment import WarpParameters

KEY = jax.random.key(0)
AFFINE = {"rotation": 10.0, "shift": 0.1, "shear": 8.0, "zoom": 0.1}
PEN = {"thickness": 0.5, "blur": 1.0, "contrast": 0.3}
ALL = AFFINE | PEN | {"elastic": 1.5, "erasing": 0.5}


def make_config(**fields):
    return config.parse(fields, config.Augment, flag="--config.augment")


def create(**fields):
    """The function that a config with these fields describes; never None."""
    created = augment.create(make_config(**fields))
    assert created is not None
    return created


@functools.cache
def compiled(**fields):
    return jax.jit(create(**fields))


def noise(*shape, seed=0) -> Any:
    return np.random.default_rng(seed).random(shape, np.float32)


def scalars(**values):
    """Parameters of one warp; the identity's where nothing is said."""
    identity = WarpParameters(*[jnp.float32(x) for x in (0, 0, 0, 0, 1, 1)])
    return identity._replace(**{k: jnp.float32(v) for k, v in values.items()})


def centre_of(shape, more=0.0):
    return tuple(size / 2 - 0.5 + more for size in shape[:2])


@jax.jit
def warp_about(image, parameters, centre):
    return augment.warp(image, augment.affine_matrix(parameters, centre))


def streams(place):
    """Keys of the warp, the elastic deformation and the erasing of one image."""
    return jax.random.split(jax.random.fold_in(KEY, place), 3)


@functools.cache
def keys(count, seed=0):
    return jax.random.split(jax.random.key(seed), count)


def assert_plausible(test: Any):
    """Of a statistical test with a fixed seed: not an unlikely result."""
    assert test.pvalue > 1e-3, test


def assert_uniform(values, low, high):
    least, most = values.min(), values.max()
    assert low <= least and most <= high, (least, most)
    uniform = scipy.stats.uniform(low, high - low)
    assert_plausible(scipy.stats.kstest(values, uniform.cdf, method="asymp"))
