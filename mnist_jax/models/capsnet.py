"""The capsule network with routing by agreement."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from mnist_jax.config import option
from mnist_jax.models.capsules import TINY, CapsuleNetwork, Vote, Votes
from mnist_jax.models.layers import HE_NORMAL, Conv
from mnist_jax.models.outputs import Images, Labels, Outputs


class CapsNet(CapsuleNetwork):
    """Two convolutions of 9x9; capsules of 8 at each place; routing to one per class.

    1,280,720 parameters, 574,992 of them in the decoder. Scaled down from 8,215,568,
    which take some 14 times the work: `channels=256`, `capsules=32` and
    `decoder_units=(512, 1024)` give the paper's network.

    Sabour, Frosst, Hinton: "Dynamic routing between capsules", 2017,
    https://arxiv.org/abs/1710.09829.
    """

    smallest = 17
    channels: int = option(64, "Channels of the first convolution.", at_least=1)
    capsules: int = option(
        8, "Capsules at each of the 6x6 places of the second convolution.", at_least=1
    )
    iterations: int = option(3, "Iterations of the routing.", at_least=1)

    @nn.compact
    def __call__(
        self, images: Images, *, train: bool, labels: Labels | None = None
    ) -> Outputs:
        """Map images to `Outputs`. The features are the capsules of all classes."""
        self.check_size(images)
        conv = functools.partial(
            Conv,
            kernel_size=(9, 9),
            padding="VALID",
            kernel_init=HE_NORMAL,
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
