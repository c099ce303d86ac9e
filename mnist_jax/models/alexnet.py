"""AlexNet: a small one for 28x28 images, and the one whose weights are published."""

import functools

import flax.linen as nn
import jax.numpy as jnp
from jax.typing import DTypeLike

from mnist_jax.models import imagenet
from mnist_jax.models.layers import HE_NORMAL, Conv, Dense, Dropout, max_pool
from mnist_jax.models.outputs import Images, Logits, Maps


class AlexNet(nn.Module):
    """Five convolutions, three overlapping pools, three dense layers.

    1,138,058 parameters. Scaled down from 60 million: the first kernels have 5x5 pixels
    and no stride, since a digit of 28x28 has no detail to spare; the channels, 96 to
    384 in the paper, and the 4,096 units of the dense layers, fit ten classes and two
    cores. Pools are padded, so that 28 becomes 14, 7 and 4.

    Without the paper's local response normalisation, which doubles the time of a step
    on a CPU, and which later networks dropped since it did not help them (section 4.1
    of https://arxiv.org/abs/1409.1556).

    Krizhevsky, Sutskever, Hinton: "ImageNet classification with deep convolutional
    neural networks", NeurIPS 2012.
    """

    num_classes: int
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, images: Images, *, train: bool) -> Logits:
        """Map images to logits. The features are the 256 of `dense2`."""
        options = {"kernel_init": HE_NORMAL, "dtype": self.dtype}
        conv = functools.partial(Conv, relu=True, **options)
        dense = functools.partial(Dense, **options)
        x = max_pool(conv(32, (5, 5), name="conv1")(images), 3, 2, "SAME")
        x = max_pool(conv(96, (5, 5), name="conv2")(x), 3, 2, "SAME")
        x = conv(128, (3, 3), name="conv3")(x)
        x = conv(128, (3, 3), name="conv4")(x)
        x = max_pool(conv(96, (3, 3), name="conv5")(x), 3, 2, "SAME")
        x = x.reshape(x.shape[0], -1)
        for layer, units in enumerate((384, 256), start=1):
            x = Dropout(0.5)(x, train=train)
            x = nn.relu(dense(units, name=f"dense{layer}")(x))
        self.sow("intermediates", "features", x)
        return dense(self.num_classes, name="logits")(x)


class AlexNetOWT(imagenet.Published):
    """The convolutions of torchvision's `alexnet`, with a new head.

    2,606,410 parameters, 2,469,696 of them the body's: a later version of AlexNet with
    fewer channels, on a single GPU and without normalisation. PyTorch's names of the
    five convolutions are `features.0`, `features.3`, `features.6`, `features.8` and
    `features.10`.

    Krizhevsky, 2014, "One weird trick for parallelizing convolutional neural networks":
    https://arxiv.org/abs/1404.5997
    """

    scale = "torch"
    input_size: int = imagenet.input_size(63, "1x1", trained_on=224)

    def body(self) -> tuple[tuple[str, ...], ...]:
        """Return the name of the convolution of each stage."""
        return ("conv1",), ("conv2",), ("conv3",), ("conv4",), ("conv5",)

    def run_stage(self, x: Maps, stage: int, *, train: bool) -> Maps:
        """Compute a convolution, and the pool that follows the outer three."""
        (name,) = self.body()[stage]
        options = {"kernel_init": HE_NORMAL, "dtype": self.dtype}
        conv = functools.partial(Conv, relu=True, name=name, **options)
        if stage == 0:
            conv = functools.partial(conv, strides=(4, 4), padding="VALID")
            x = conv(64, (11, 11))(imagenet.pad(x, 2))
        elif stage == 1:
            x = conv(192, (5, 5))(x)
        else:
            x = conv((384, 256, 256)[stage - 2], (3, 3))(x)
        return x if stage in (2, 3) else max_pool(x, 3, 2)
