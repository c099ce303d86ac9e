"""VGG16, the large network, whose convolutions may be pretrained."""

import functools
from typing import ClassVar, Literal

import flax.linen as nn
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from mnist_jax.config import option
from mnist_jax.models import imagenet
from mnist_jax.models.layers import KERNEL_INITS, Conv, Dense, Dropout, max_pool
from mnist_jax.models.outputs import Images


class VGG16(nn.Module):
    """Five blocks of 3x3 convolutions, each pooled, and the report's head.

    At 32x32, 14,714,688 of the 14,982,474 parameters are in the convolutions, which
    have the names and shapes of Keras's, so that its weights fit.

    Simonyan and Zisserman, 2015: https://arxiv.org/abs/1409.1556
    """

    blocks: ClassVar[tuple[int, ...]] = (2, 2, 3, 3, 3)  # numbers of convolutions
    channels: ClassVar[int] = 64  # in the first block; the next three double them
    hidden: ClassVar[int] = 512
    num_classes: int
    input_size: int = option(
        32,
        "Height and width of the input. A border of 2 pixels makes 32; larger images "
        "are scaled up from that, bilinearly. Five pools halve 32 to 1.",
        at_least=32,
    )
    preprocess: Literal["unit", "imagenet", "torch"] = option(
        "unit",
        'What the three channels hold. "unit": grey values in 0..1, as in the report. '
        '"imagenet": what Keras\'s ImageNet weights were trained on, 0..255 minus the '
        'mean, blue first. "torch": what torchvision\'s were, 0..1 minus the mean, '
        "divided by the standard deviation.",
    )
    kernel_init: Literal["glorot_uniform", "he_normal"] = option(
        "glorot_uniform",
        'Initializer of the kernels: "glorot_uniform", as in Keras, or "he_normal", '
        "from which deep networks without BatchNorm learn sooner.",
    )
    dtype: DTypeLike = jnp.float32

    @property
    def stages(self) -> tuple[tuple[str, ...], ...]:
        """The names of the layers of each block and of the head."""
        body = (
            tuple(f"block{block}_conv{layer}" for layer in range(1, layers + 1))
            for block, layers in enumerate(self.blocks, start=1)
        )
        return (*body, ("dense1", "logits"))

    @nn.compact
    def __call__(
        self, images: Images, *, train: bool, start: int = 0, stop: int | None = None
    ) -> Float[Array, "batch ..."]:
        """Map images to logits, or compute the stages from `start` to before `stop`.

        If `start` is not 0, `images` is the output of the stage before it. There
        are `hidden` features.
        """
        options = {"kernel_init": KERNEL_INITS[self.kernel_init], "dtype": self.dtype}
        conv = functools.partial(Conv, relu=True, **options)
        dense = functools.partial(Dense, **options)
        scale = "caffe" if self.preprocess == "imagenet" else self.preprocess
        x = images
        if start == 0:
            x = imagenet.prepare(images, size=self.input_size, scale=scale)
        *body, (hidden, logits) = self.stages
        for layers in body[start:stop]:
            channels = self.channels * 2 ** min(body.index(layers), 3)
            for name in layers:
                x = conv(channels, (3, 3), name=name)(x)
            x = max_pool(x, 2)
        if stop is not None:
            return x
        x = x.reshape(x.shape[0], -1)
        x = nn.relu(dense(self.hidden, name=hidden)(x))
        self.sow("intermediates", "features", x)
        x = Dropout(0.5)(x, train=train)
        return dense(self.num_classes, name=logits)(x)
