"""An optimizer and an augmentation as users write them outside the package."""

import jax
import jax.numpy as jnp
import optax


def lion(config):
    return optax.scale_by_lion(config.b1, config.b2)


def not_optax(config):
    return lambda gradients: gradients


def create(config):
    def flip(key, images, progress):
        mirrored = jax.random.bernoulli(key, 0.5, (len(images), 1, 1, 1))
        return jnp.where(mirrored, images[:, :, ::-1], images)

    return flip
