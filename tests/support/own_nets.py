"""Networks as users write them outside the package: `tests.support.own_nets:MLP`."""

import flax.linen as nn
import jax.numpy as jnp
from jax.typing import DTypeLike

from mnist_jax import models
from mnist_jax.models import layers


class MLP(nn.Module):
    """Plain Flax: no convolution, no `train`, no `dtype`, nothing sown."""

    num_classes: int
    hidden: int = 16

    @nn.compact
    def __call__(self, images):
        x = images.reshape(len(images), -1)
        return nn.Dense(self.num_classes)(nn.relu(nn.Dense(self.hidden)(x)))


class FlaxCNN(nn.Module):
    """Flax's own layers, BatchNorm with its usual idiom."""

    num_classes: int

    @nn.compact
    def __call__(self, images, train):
        x = nn.Conv(4, (3, 3), strides=2)(images)
        x = nn.BatchNorm(use_running_average=not train)(x)
        x = nn.max_pool(nn.relu(x), (4, 4), (4, 4))
        return nn.Dense(self.num_classes)(x.reshape(len(x), -1))


class Block(nn.Module):
    """A module within a module."""

    features: int
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x, *, train):
        conv = layers.Conv(
            self.features, (3, 3), strides=(2, 2), dtype=self.dtype, name="conv"
        )
        norm = layers.BatchNorm(dtype=self.dtype, name="norm")
        return nn.relu(norm(conv(x), use_running_average=not train))


class TwoOutputs(nn.Module):
    """Nested blocks, an auxiliary output, labels as an input, and its own loss."""

    num_classes: int
    width: int = 4
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, images, *, train, labels=None):
        x = Block(self.width, self.dtype, name="block1")(images, train=train)
        if labels is not None:
            assert labels.shape == images.shape[:1]
        middle = x.mean(axis=(1, 2))
        x = Block(2 * self.width, self.dtype, name="block2")(x, train=train)
        x = layers.max_pool(x, 3, 2, "SAME").reshape(len(x), -1)
        self.sow("intermediates", "features", x)
        dense = layers.Dense(self.num_classes, dtype=self.dtype, name="logits")
        other = layers.Dense(self.num_classes, dtype=self.dtype, name="auxiliary")
        return models.Outputs(dense(x), {"auxiliary": other(middle)})

    def loss(self, outputs, images, labels, *, smoothing=0.0):
        main, other = (
            models.cross_entropy(
                logits.astype(jnp.float32), labels, smoothing=smoothing
            )
            for logits in (outputs.logits, outputs.extra["auxiliary"])
        )
        return main + 0.3 * other


class Autoencoder(nn.Module):
    """Reconstructs its input, without capsules."""

    num_classes: int

    @nn.compact
    def __call__(self, images):
        x = nn.tanh(nn.Dense(6)(images.reshape(len(images), -1)))
        drawn = nn.sigmoid(nn.Dense(images[0].size)(x)).reshape(images.shape)
        return models.Outputs(nn.Dense(self.num_classes)(x), {"reconstruction": drawn})


class Wrong(nn.Module):
    """26 outputs, however many classes there are."""

    @nn.compact
    def __call__(self, images):
        return nn.Dense(26)(images.reshape(len(images), -1))


class NoDefault(nn.Module):
    """An option without a default."""

    hidden: int


NOT_A_NETWORK = 3
