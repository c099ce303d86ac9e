"""GoogLeNet, whose modules see an image at several scales at once."""

import functools

import flax.linen as nn
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Integer

from mnist_jax.config import option
from mnist_jax.models.layers import (
    KERNEL_INITS,
    BatchNorm,
    Conv,
    Dense,
    Dropout,
    average_pool,
    max_pool,
)
from mnist_jax.models.outputs import Outputs, cross_entropy

Maps = Float[Array, "batch _ _ _"]  # images, or the output of a layer

_HE_NORMAL = KERNEL_INITS["he_normal"]


class Inception(nn.Module):
    """Four inception modules, with auxiliary logits after the second, for small images.

    410,180 parameters, of which 2,376 are BatchNorm's statistics; 85,642 belong to the
    auxiliary classifier, which prediction does without.

    The paper's GoogLeNet has nine modules with four to eight times the channels, for
    images of 224x224. Here the stem halves the image once, not three times, so that two
    modules each see 14x14 and 7x7 places, and one auxiliary classifier is enough. It
    averages adjacent windows, where the paper's overlap. BatchNorm follows each
    convolution, as in its authors' next network, and no response normalization.

    Szegedy et al., 2015: https://arxiv.org/abs/1409.4842
    Ioffe and Szegedy, 2015: https://arxiv.org/abs/1502.03167
    """

    num_classes: int
    auxiliary: float = option(
        0.3,
        "Weight of the auxiliary logits' cross-entropy in the training loss. 0: the "
        "network has no auxiliary logits.",
        at_least=0,
    )
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, images: Maps, *, train: bool) -> Outputs:
        """Map images to logits, in training to auxiliary ones too.

        The features are the 272 averages over all places.
        """
        conv = functools.partial(self._conv, train=train)
        dense = functools.partial(Dense, kernel_init=_HE_NORMAL)

        def module(x: Maps, name: str, *channels: int) -> Maps:
            """Apply a module with the channels of a row of the paper's table 1."""
            ones, reduced3, threes, reduced5, fives, pooled = channels
            # The three 1x1 convolutions of the same input are computed as one.
            first = conv(x, f"{name}_1x1", ones + reduced3 + reduced5, 1)
            branch3 = first[..., ones : ones + reduced3]
            branch5 = first[..., ones + reduced3 :]
            branches = [
                first[..., :ones],
                conv(branch3, f"{name}_3x3", threes, 3),
                conv(branch5, f"{name}_5x5", fives, 5),
                conv(max_pool(x, 3, 1, "SAME"), f"{name}_pool", pooled, 1),
            ]
            return jnp.concatenate(branches, axis=-1)

        x = conv(images, "stem1", 32, 5)
        x = max_pool(x, 2)
        x = conv(x, "stem2", 64, 3)
        x = module(x, "inception1", 32, 32, 48, 8, 16, 16)
        x = module(x, "inception2", 48, 48, 64, 12, 24, 24)
        extra = {}
        if self.auxiliary and (train or self.is_initializing()):
            y = conv(average_pool(x, 4), "auxiliary", 64, 1)
            y = y.reshape(y.shape[0], -1)
            y = nn.relu(dense(128, dtype=self.dtype, name="auxiliary_dense")(y))
            y = Dropout(0.5)(y.astype(jnp.float32), train=train)
            y = dense(self.num_classes, name="auxiliary_logits")(y)
            extra = {"auxiliary_logits": y}
        x = max_pool(x, 2)
        x = module(x, "inception3", 64, 64, 96, 16, 32, 32)
        x = module(x, "inception4", 80, 64, 128, 16, 32, 32)
        x = x.astype(jnp.float32).mean(axis=(1, 2))
        self.sow("intermediates", "features", x)
        x = Dropout(0.4)(x, train=train)
        return Outputs(dense(self.num_classes, name="logits")(x), extra)

    def loss(
        self,
        outputs: Outputs,
        images: Float[Array, "batch ..."],
        labels: Integer[Array, " batch"],
        *,
        smoothing: float = 0.0,
    ) -> Float[Array, " batch"]:
        """Return the cross-entropy, plus the auxiliary one's share in training."""
        loss = cross_entropy(outputs.logits, labels, smoothing=smoothing)
        for logits in outputs.extra.values():
            loss += self.auxiliary * cross_entropy(logits, labels, smoothing=smoothing)
        return loss

    def _conv(
        self, x: Maps, name: str, features: int, size: int, *, train: bool
    ) -> Maps:
        """Convolve, normalize and apply ReLU."""
        conv = Conv(
            features,
            (size, size),
            use_bias=False,
            kernel_init=_HE_NORMAL,
            dtype=self.dtype,
            name=f"{name}_conv",
        )
        norm = BatchNorm(relu=True, dtype=self.dtype, name=f"{name}_norm")
        return norm(conv(x), use_running_average=not train)
