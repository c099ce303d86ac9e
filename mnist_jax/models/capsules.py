"""Parts of capsule networks: classes by length, margin loss, decoder, votes."""

import math
from typing import ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from mnist_jax.config import ConfigError, option
from mnist_jax.models.layers import Dense
from mnist_jax.models.outputs import Images, Labels, Outputs

Votes = Float[Array, "capsules batch classes size"]
TINY = 1e-9
"""Added to squared lengths, so that the gradient of a length is finite at 0."""


class CapsuleNetwork(nn.Module):
    """The end of a network whose last layer is a capsule, a vector, for each class.

    The length of a capsule is the probability of its class, its direction says how the
    digit looks. A decoder draws the image from the capsule of its class alone.
    """

    smallest: ClassVar[int]  # height and width of the images that it takes
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

    def check_size(self, images: Images) -> None:
        """Raise a ConfigError if images are too small for unpadded convolutions."""
        height, width = images.shape[1:3]
        if min(height, width) < self.smallest:
            raise ConfigError(
                f"--config.model.name: {type(self).__name__} takes images of at least "
                f"{self.smallest}x{self.smallest} pixels, not {height}x{width}. Choose "
                "another network."
            )

    def outputs(
        self,
        capsules: Float[Array, "batch classes size"],
        images: Images,
        labels: Labels | None,
    ) -> Outputs:
        """Return logits, lengths of the capsules, and reconstructed images.

        An image is drawn from the capsule of its label, or from the longest one if
        `labels` is None. The logits log(v / (1 - v)) have the order of the lengths v,
        whose own softmax would be almost even.
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
        labels: Labels,
        shape: tuple[int, ...],
    ) -> Images:
        """Draw images of a shape, in 0..1, from the capsules of some classes."""
        mask = jax.nn.one_hot(labels, self.num_classes, dtype=capsules.dtype)
        return self.decoder(capsules * mask[..., None], shape)

    def loss(
        self, outputs: Outputs, images: Images, labels: Labels
    ) -> Float[Array, " batch"]:
        """Return the margin loss, plus the weighted error of the reconstruction."""
        present = jax.nn.one_hot(labels, self.num_classes)
        lengths, drawn = outputs.extra["lengths"], outputs.extra["reconstruction"]
        missing = present * nn.relu(0.9 - lengths) ** 2
        wrong = 0.5 * (1 - present) * nn.relu(lengths - 0.1) ** 2
        error = jnp.square(drawn - images).sum((1, 2, 3))
        return (missing + wrong).sum(-1) + self.reconstruction_weight * error


class Decoder(nn.Module):
    """Dense ReLU layers, and a sigmoid for each pixel."""

    units: tuple[int, ...]
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self, capsules: Float[Array, "batch classes size"], shape: tuple[int, ...]
    ) -> Images:
        """Draw images of a shape, in 0..1."""
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
