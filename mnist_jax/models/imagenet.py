"""What published networks share: the images that they expect, and the head.

`Published` is the base of the networks whose weights others give away.
"""

import abc
from typing import Any, ClassVar, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from mnist_jax.config import option
from mnist_jax.models.layers import Dense, Dropout
from mnist_jax.models.outputs import Images, Maps

# Of ImageNet's images: in 0..255 and in the order blue, green, red, as Caffe had them;
# in 0..1, red first, as PyTorch has them.
_CAFFE_MEAN = (103.939, 116.779, 123.68)
_TORCH_MEAN = (0.485, 0.456, 0.406)
_TORCH_STD = (0.229, 0.224, 0.225)


def prepare(
    images: Images, *, size: int, scale: str
) -> Float[Array, "batch size size 3"]:
    """Scale images to `size` x `size`, and repeat grey values in three channels.

    A border of 2 pixels makes 32x32 of MNIST's images, which are then scaled up
    bilinearly if `size` is larger.

    Args:
        images: in 0..1.
        size: height and width of the result.
        scale: what the channels of the result hold: "unit": 0..1; "caffe": 0..255 minus
            the mean of ImageNet, blue first; "torch": 0..1 minus the mean, divided by
            the standard deviation; "tf": -1..1. The last three are the `mode` of
            `keras.applications.imagenet_utils.preprocess_input`.
    """
    x = jnp.pad(images, ((0, 0), (2, 2), (2, 2), (0, 0)))
    if x.shape[1:3] != (size, size):
        x = jax.image.resize(x, (x.shape[0], size, size, x.shape[3]), "bilinear")
    if x.shape[3] == 1:
        x = jnp.repeat(x, 3, axis=-1)
    if scale == "caffe":
        return 255 * x - jnp.array(_CAFFE_MEAN)[None, None, None]
    if scale == "torch":
        mean, std = jnp.array(_TORCH_MEAN), jnp.array(_TORCH_STD)
        return (x - mean[None, None, None]) / std[None, None, None]
    return 2 * x - 1 if scale == "tf" else x


def pad(
    x: Float[Array, "batch _ _ channels"], width: int
) -> Float[Array, "batch _ _ channels"]:
    """Add a border of zeros, on all four sides."""
    return jnp.pad(x, ((0, 0), (width, width), (width, width), (0, 0)))


def input_size(smallest: int, places: str, *, trained_on: int) -> Any:
    """Declare the option `input_size` of a network.

    Args:
        smallest: the smallest size that the body takes, and the default.
        places: height and width of the body's output then, "3x3".
        trained_on: the size of the images that the published weights have seen.
    """
    return option(
        smallest,
        "Height and width of the input. A border of 2 pixels makes 32, which is scaled "
        f"up bilinearly; the body makes {places} of {smallest}. Its published weights "
        f"are of images of {trained_on}.",
        at_least=smallest,
    )


class Published(nn.Module):
    """A body as ImageNet's weights need it, and a head on its averaged output.

    A subclass has the methods `body` and `run_stage`, and its own `input_size`, whose
    default is the smallest that the body takes.
    """

    scale: ClassVar[str]  # of `prepare`, for "imagenet"
    num_classes: int
    input_size: int
    preprocess: Literal["unit", "imagenet"] = option(
        "imagenet",
        'What the three channels hold. "unit": grey values in 0..1. "imagenet": what '
        "the published weights were trained on.",
    )
    dtype: DTypeLike = jnp.float32

    @abc.abstractmethod
    def body(self) -> tuple[tuple[str, ...], ...]:
        """Return the names of the layers of each stage before the head."""

    @abc.abstractmethod
    def run_stage(self, x: Maps, stage: int, *, train: bool) -> Maps:
        """Compute the stage of that index in the body."""

    @property
    def stages(self) -> tuple[tuple[str, ...], ...]:
        """The names of the layers of each stage of the body and of the head."""
        return (*self.body(), ("dense1", "logits"))

    @nn.compact
    def __call__(
        self, images: Images, *, train: bool, start: int = 0, stop: int | None = None
    ) -> Float[Array, "batch ..."]:
        """Map images to logits, or compute the stages from `start` to before `stop`.

        If `start` is not 0, `images` is the output of the stage before it. There are
        512 features.
        """
        x = images
        if start == 0:
            scale = self.scale if self.preprocess == "imagenet" else "unit"
            x = prepare(images, size=self.input_size, scale=scale)
        for stage in range(len(self.body()))[start:stop]:
            x = self.run_stage(x, stage, train=train)
        if stop is not None:
            return x
        x = x.astype(jnp.float32).mean(axis=(1, 2))
        x = nn.relu(Dense(512, name="dense1")(x))
        self.sow("intermediates", "features", x)
        x = Dropout(0.5)(x, train=train)
        return Dense(self.num_classes, name="logits")(x)


def numbered(number: int) -> tuple[str, str]:
    """Return Keras's names of a convolution, and its BatchNorm, that have no others."""
    suffix = f"_{number}" if number else ""
    return f"conv2d{suffix}", f"batch_normalization{suffix}"
