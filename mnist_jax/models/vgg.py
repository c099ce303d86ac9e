"""VGG16 and VGG19: the large network of the report, whose body may come pretrained."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from mnist_jax.errors import UserError
from mnist_jax.models.layers import KERNEL_INITS, Conv, Dense, Dropout, max_pool

# Of ImageNet's images, 0..255, in the order blue, green, red: what Keras's weights
# expect to be subtracted (Caffe's, from which they were converted).
_CAFFE_MEAN = (103.939, 116.779, 123.68)
# Of ImageNet's images, 0..1, red, green, blue: what torchvision's weights expect.
_TORCH_MEAN = (0.485, 0.456, 0.406)
_TORCH_STD = (0.229, 0.224, 0.225)

# What the three channels that the first convolution sees hold.
PREPROCESS = ("unit", "imagenet", "torch")
_BORDER = 2
SMALLEST = 32  # which five pools halve to 1


class VGG(nn.Module):
    """Five blocks of 3x3 convolutions, each pooled, and the report's head.

    With the `blocks` of VGG16, at 32x32, 14,982,474 parameters, of which 14,714,688 in
    the convolutions. These have the names, the shapes and the order of Keras's, so that
    its ImageNet weights fit.

    Simonyan and Zisserman, 2015: https://arxiv.org/abs/1409.1556

    Attributes:
        blocks: convolutions in each block: 2, 2, 3, 3, 3 for VGG16.
        size: height and width that images are brought to: a border of 2 pixels makes
            32, larger ones are scaled up from that, bilinearly.
        preprocess: "unit" for grey values in 0..1, as in the report; "imagenet" for
            what Keras's weights were trained on, 0..255 less the mean of ImageNet, blue
            first; "torch" for what torchvision's were, 0..1 less the mean, divided by
            the standard deviation.
        kernel_init: where kernels start: a key of `layers.KERNEL_INITS`.
        num_classes: the number of logits.
        dtype: what is computed in; parameters are float32.
    """

    blocks: tuple[int, ...]
    size: int = SMALLEST
    preprocess: str = "unit"
    kernel_init: str = "glorot_uniform"
    num_classes: int = 10
    dtype: DTypeLike = jnp.float32

    @property
    def stages(self) -> tuple[tuple[str, ...], ...]:
        """The layers with parameters, in the parts that `start` and `stop` count."""
        body = (
            tuple(f"block{block}_conv{layer}" for layer in range(1, layers + 1))
            for block, layers in enumerate(self.blocks, start=1)
        )
        return (*body, ("dense1", "logits"))

    @nn.compact
    def __call__(
        self,
        images: Float[Array, "batch height width channels"],
        *,
        train: bool,
        start: int = 0,
        stop: int | None = None,
    ) -> Float[Array, "batch ..."]:
        """Map images to logits, or do a part of that.

        Args:
            images: grey values in 0..1, 28 28 1, 0 being the background; if `start` is
                not 0, what the stage before it gave.
            train: with dropout, whose random stream is `dropout`.
            start: index in `stages` of the first to compute.
            stop: index of the first not to compute; None for the logits.

        Returns:
            Unnormalised log-probabilities, or what stage `stop` would take. The 512
            penultimate features are sown as `features` into `intermediates`.
        """
        options = {"kernel_init": KERNEL_INITS[self.kernel_init], "dtype": self.dtype}
        conv = functools.partial(Conv, relu=True, **options)
        dense = functools.partial(Dense, **options)
        x = images if start else self._prepare(images)
        *body, (hidden, logits) = self.stages
        for layers in body[start:stop]:
            channels = 64 * 2 ** min(body.index(layers), 3)
            for name in layers:
                x = conv(channels, (3, 3), name=name)(x)
            x = max_pool(x, 2)
        if stop is not None:
            return x
        x = x.reshape(x.shape[0], -1)
        x = nn.relu(dense(512, name=hidden)(x))
        self.sow("intermediates", "features", x)
        x = Dropout(0.5)(x, train=train)
        return dense(self.num_classes, name=logits)(x)

    def _prepare(
        self, images: Float[Array, "batch 28 28 1"]
    ) -> Float[Array, "batch size size 3"]:
        """Bring images to the size and the three channels that the weights expect."""
        border = (_BORDER, _BORDER)
        x = jnp.pad(images, ((0, 0), border, border, (0, 0)))
        if x.shape[1] != self.size:
            x = jax.image.resize(
                x, (x.shape[0], self.size, self.size, x.shape[3]), "bilinear"
            )
        x = jnp.repeat(x, 3, axis=-1)
        if self.preprocess == "imagenet":
            x = 255 * x - _per_channel(_CAFFE_MEAN)
        elif self.preprocess == "torch":
            x = (x - _per_channel(_TORCH_MEAN)) / _per_channel(_TORCH_STD)
        return x


def _per_channel(values: tuple[float, ...]) -> Float[Array, "1 1 1 channels"]:
    return jnp.array(values)[None, None, None]


def check(size: int, preprocess: str, kernel_init: str) -> None:
    """Refuse a size, an input or a start that there is not.

    Raises:
        UserError: with the flag and what it may be.
    """
    if size < SMALLEST:
        raise UserError(
            f"--config.model.input_size={size}: must be at least {SMALLEST}, which is "
            "what five pools can halve."
        )
    if preprocess not in PREPROCESS:
        raise UserError(
            f"--config.model.preprocess={preprocess}: unknown "
            f"(known: {', '.join(PREPROCESS)})."
        )
    if kernel_init not in KERNEL_INITS:
        raise UserError(
            f"--config.model.kernel_init={kernel_init}: unknown "
            f"(known: {', '.join(KERNEL_INITS)})."
        )


VGG16 = functools.partial(VGG, blocks=(2, 2, 3, 3, 3))
VGG19 = functools.partial(VGG, blocks=(2, 2, 4, 4, 4))
