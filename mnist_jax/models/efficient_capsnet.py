"""The efficient capsule network, with self-attention in place of iterations."""

import functools
import math

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from mnist_jax.models.capsules import TINY, CapsuleNetwork, Vote, Votes
from mnist_jax.models.layers import HE_NORMAL, BatchNorm, Conv
from mnist_jax.models.outputs import Images, Labels, Outputs


class EfficientCapsNet(CapsuleNetwork):
    """Four convolutions, 16 capsules of 8 from all places, self-attention routing.

    737,392 parameters, of which 576 are BatchNorm's statistics and 574,992 are in the
    decoder. Only the decoder, which is not used to classify, is smaller than the
    paper's: its hidden layers have half as many units.

    Mazzia, Salvetti, Chiaberge: "Efficient-CapsNet: capsule network with self-attention
    routing", 2021, https://arxiv.org/abs/2101.12491.
    """

    smallest = 11

    @nn.compact
    def __call__(
        self, images: Images, *, train: bool, labels: Labels | None = None
    ) -> Outputs:
        """Map images to `Outputs`. The features are the capsules of all classes."""
        options = {"kernel_init": HE_NORMAL, "dtype": self.dtype}
        conv = functools.partial(Conv, padding="VALID", relu=True, **options)
        self.check_size(images)
        x = images
        for layer, (channels, size, stride) in enumerate(
            ((32, 5, 1), (64, 3, 1), (64, 3, 1), (128, 3, 2)), start=1
        ):
            kernel = (size, size)
            x = conv(channels, kernel, (stride, stride), name=f"conv{layer}")(x)
            norm = BatchNorm(dtype=self.dtype, name=f"norm{layer}")
            x = norm(x, use_running_average=not train)
        x = WeightedSum(name="primary")(x.astype(jnp.float32))
        primary = squash(x.reshape(len(x), -1, 8))
        init = nn.initializers.variance_scaling(
            1.0, "fan_in", "truncated_normal", in_axis=1, out_axis=(2, 3), batch_axis=0
        )
        vote = Vote(self.num_classes, 16, init, dtype=self.dtype, name="votes")
        capsules = SelfAttention(name="routing")(vote(primary))
        return self.outputs(capsules, images, labels if train else None)


class WeightedSum(nn.Module):
    """A depthwise convolution whose kernel is as large as the image."""

    @nn.compact
    def __call__(self, x: Images) -> Float[Array, "batch channels"]:
        """Sum over the places, with weights for each channel."""
        init = nn.initializers.variance_scaling(
            1.0, "fan_in", "truncated_normal", in_axis=(0, 1), out_axis=2
        )
        kernel = self.param("kernel", init, x.shape[1:])
        bias = self.param("bias", nn.initializers.zeros, x.shape[-1:])
        return (x * kernel[None]).sum((1, 2)) + bias[None]


class SelfAttention(nn.Module):
    """Routing in one step: a capsule sends more where its vote agrees with the rest."""

    @nn.compact
    def __call__(self, votes: Votes) -> Float[Array, "batch classes size"]:
        """Return the capsules of the classes."""
        count, _, classes, _ = votes.shape
        prior = self.param("bias", nn.initializers.zeros, (count, classes))
        agreement = (votes * votes.sum(0, keepdims=True)).sum(-1) / math.sqrt(8)
        sent = jax.nn.softmax(agreement, axis=-1) + prior[:, None]
        return squash((sent[..., None] * votes).sum(0))


def squash(x: Float[Array, "*places size"]) -> Float[Array, "*places size"]:
    """Shorten vectors of length n to 1 - exp(-n)."""
    length = jnp.sqrt(jnp.square(x).sum(-1, keepdims=True) + TINY)
    return x * -jnp.expm1(-length) / length
