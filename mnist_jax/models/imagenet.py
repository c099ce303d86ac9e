"""Images as the published networks expect them: their size, channels and statistics."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

# Of ImageNet's images: in 0..255 and in the order blue, green, red, as Caffe had them;
# in 0..1, red first, as PyTorch has them.
_CAFFE_MEAN = (103.939, 116.779, 123.68)
_TORCH_MEAN = (0.485, 0.456, 0.406)
_TORCH_STD = (0.229, 0.224, 0.225)


def prepare(
    images: Float[Array, "batch height width channels"], *, size: int, scale: str
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
