"""The capsule network with routing by agreement, and what capsule networks share."""

import functools
import math

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Integer

from mnist_jax.config import option
from mnist_jax.models.layers import KERNEL_INITS, Conv, Dense
from mnist_jax.models.outputs import Outputs

Votes = Float[Array, "capsules batch classes size"]
# Keeps the gradient of a length finite at 0.
TINY = 1e-9


class CapsuleNetwork(nn.Module):
    """The end of a network whose last layer is a capsule, a vector, for each class.

    The length of a capsule is the probability of its class, its direction says how the
    digit looks. A decoder draws the image from the capsule of its class alone.
    """

    num_classes: int
    decoder_units: tuple[int, ...] = option(
        (256, 512), "Units of the hidden layers that draw images from capsules."
    )
    reconstruction_weight: float = option(
        0.0005,
        "The weight of the squared error of the drawn images, summed over the pixels, "
        "in the loss.",
        at_least=0,
    )
    dtype: DTypeLike = jnp.float32

    def setup(self) -> None:
        """Create the decoder, which `__call__` and `reconstruct` share."""
        self.decoder = Decoder(self.decoder_units, dtype=self.dtype)

    def outputs(
        self,
        capsules: Float[Array, "batch classes size"],
        images: Float[Array, "batch height width channels"],
        labels: Integer[Array, " batch"] | None,
    ) -> Outputs:
        """Return logits, lengths of the capsules, and reconstructed images.

        Those are drawn from the capsules of `labels`, or from the longest ones if None.
        The logits log(v / (1 - v)) of the lengths v have the same order; the softmax of
        the lengths themselves would be almost even.
        """
        self.sow("intermediates", "features", capsules.reshape(len(capsules), -1))
        lengths = jnp.sqrt(jnp.square(capsules).sum(-1) + TINY)
        drawn = lengths.argmax(-1) if labels is None else labels
        extra = {
            "capsules": capsules,
            "lengths": lengths,
            "reconstruction": self.reconstruct(capsules, drawn, images.shape[1:]),
        }
        inside = jnp.clip(lengths, 1e-6, 1 - 1e-6)
        return Outputs(jnp.log(inside) - jnp.log1p(-inside), extra)

    def reconstruct(
        self,
        capsules: Float[Array, "batch classes size"],
        labels: Integer[Array, " batch"],
        shape: tuple[int, ...],
    ) -> Float[Array, "batch height width channels"]:
        """Draw images of a shape, in 0..1, from the capsules of some classes."""
        mask = jax.nn.one_hot(labels, self.num_classes, dtype=capsules.dtype)
        return self.decoder(capsules * mask[..., None], shape)

    def loss(
        self,
        outputs: Outputs,
        images: Float[Array, "batch height width channels"],
        labels: Integer[Array, " batch"],
    ) -> Float[Array, " batch"]:
        """Return the margin loss, plus the weighted error of the reconstruction."""
        present = jax.nn.one_hot(labels, self.num_classes)
        lengths, drawn = outputs.extra["lengths"], outputs.extra["reconstruction"]
        missing = present * nn.relu(0.9 - lengths) ** 2
        wrong = 0.5 * (1 - present) * nn.relu(lengths - 0.1) ** 2
        error = jnp.square(drawn - images).sum((1, 2, 3))
        return (missing + wrong).sum(-1) + self.reconstruction_weight * error


class Decoder(nn.Module):
    """Dense ReLU layers, and a sigmoid for each pixel; of any capsules."""

    units: tuple[int, ...]
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self, capsules: Float[Array, "batch classes size"], shape: tuple[int, ...]
    ) -> Float[Array, "batch height width channels"]:
        """Draw images of a shape."""
        x = capsules.reshape(len(capsules), -1)
        for layer, units in enumerate(self.units, start=1):
            x = nn.relu(Dense(units, dtype=self.dtype, name=f"dense{layer}")(x))
        x = Dense(math.prod(shape), dtype=self.dtype, name="pixels")(x)
        return nn.sigmoid(x.astype(jnp.float32)).reshape(len(x), *shape)


class Vote(nn.Module):
    """A matrix for each pair of a capsule and a class: predicts the class's capsule."""

    classes: int
    size: int
    kernel_init: nn.initializers.Initializer
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, capsules: Float[Array, "batch capsules _"]) -> Votes:
        """Return the votes of all capsules, in float32."""
        shape = (*capsules.shape[1:], self.classes, self.size)
        kernel = self.param("kernel", self.kernel_init, shape).astype(self.dtype)
        votes = jnp.einsum("bni,nikd->nbkd", capsules.astype(self.dtype), kernel)
        return votes.astype(jnp.float32)


class CapsNet(CapsuleNetwork):
    """Two convolutions of 9x9; capsules of 8 at each place; routing to one per class.

    1,280,720 parameters, 574,992 of them in the decoder. Scaled down from 8,215,568,
    which take some 14 times the work: `channels=256`, `capsules=32` and
    `decoder_units=(512, 1024)` give the paper's network.

    Sabour, Frosst, Hinton: "Dynamic routing between capsules", 2017,
    https://arxiv.org/abs/1710.09829.
    """

    channels: int = option(64, "Channels of the first convolution.", at_least=1)
    capsules: int = option(
        8, "Capsules at each of the 6x6 places of the second convolution.", at_least=1
    )
    iterations: int = option(3, "Iterations of the routing.", at_least=1)

    @nn.compact
    def __call__(
        self,
        images: Float[Array, "batch height width channels"],
        *,
        train: bool,
        labels: Integer[Array, " batch"] | None = None,
    ) -> Outputs:
        """Map images to `Outputs`. The features are the capsules of all classes."""
        conv = functools.partial(
            Conv,
            kernel_size=(9, 9),
            padding="VALID",
            kernel_init=KERNEL_INITS["he_normal"],
            dtype=self.dtype,
        )
        x = conv(self.channels, relu=True, name="conv")(images)
        x = conv(8 * self.capsules, strides=(2, 2), name="primary")(x)
        primary = squash(x.astype(jnp.float32).reshape(len(x), -1, 8))
        init = nn.initializers.truncated_normal(0.1)
        vote = Vote(self.num_classes, 16, init, dtype=self.dtype, name="votes")
        capsules = route(vote(primary), self.iterations)
        return self.outputs(capsules, images, labels if train else None)


def squash(x: Float[Array, "*places size"]) -> Float[Array, "*places size"]:
    """Shorten vectors of length n to n^2 / (1 + n^2); equation 1."""
    squared = jnp.square(x).sum(-1, keepdims=True)
    return x * lax.rsqrt(squared + TINY) * squared / (1 + squared)


def route(votes: Votes, iterations: int) -> Float[Array, "batch classes size"]:
    """Route by agreement; procedure 1.

    A capsule sends more to the classes whose capsule, so far, its votes agree with. No
    gradient flows through that decision, only through the votes of the last iteration.
    """
    logits, fixed = jnp.zeros(()), lax.stop_gradient(votes)
    # The first decision is even: softmax of zeros.
    capsules = squash((votes if iterations == 1 else fixed).sum(0) / votes.shape[2])
    for left in reversed(range(iterations - 1)):
        logits = logits + (fixed * capsules[None]).sum(-1)
        sent = jax.nn.softmax(logits, axis=-1)[..., None]
        capsules = squash((sent * (fixed if left else votes)).sum(0))
    return capsules
