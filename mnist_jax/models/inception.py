"""GoogLeNet, whose modules see an image at several scales: `inception`, `inception_v3`.

Szegedy et al., 2015: https://arxiv.org/abs/1409.4842
"""

import functools
import itertools
from typing import Any, ClassVar

import flax.linen as nn
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from mnist_jax.config import option
from mnist_jax.models import imagenet, layers
from mnist_jax.models.layers import HE_NORMAL, average_pool, max_pool
from mnist_jax.models.outputs import Labels, Maps, Outputs, cross_entropy


class Inception(nn.Module):
    """Four inception modules, with auxiliary logits after the second, for small images.

    410,180 parameters, of which 2,376 are BatchNorm's statistics; 85,642 belong to the
    auxiliary classifier, which prediction does without.

    The paper's GoogLeNet has nine modules with four to eight times the channels, for
    images of 224x224. Here the stem halves the image once, not three times, so that two
    modules each see 14x14 and 7x7 places, and one auxiliary classifier is enough. It
    averages adjacent windows, where the paper's overlap. BatchNorm follows each
    convolution, as in its authors' next network, and no response normalization.

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

        def conv(x: Maps, name: str, features: int, size: int) -> Maps:
            names, shape = (f"{name}_conv", f"{name}_norm"), (size, size)
            return _convolve(x, names, features, shape, train=train, dtype=self.dtype)

        dense = functools.partial(layers.Dense, kernel_init=HE_NORMAL)

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
            y = layers.Dropout(0.5)(y.astype(jnp.float32), train=train)
            y = dense(self.num_classes, name="auxiliary_logits")(y)
            extra = {"auxiliary_logits": y}
        x = max_pool(x, 2)
        x = module(x, "inception3", 64, 64, 96, 16, 32, 32)
        x = module(x, "inception4", 80, 64, 128, 16, 32, 32)
        x = x.astype(jnp.float32).mean(axis=(1, 2))
        self.sow("intermediates", "features", x)
        x = layers.Dropout(0.4)(x, train=train)
        return Outputs(dense(self.num_classes, name="logits")(x), extra)

    def loss(
        self,
        outputs: Outputs,
        images: Float[Array, "batch ..."],
        labels: Labels,
        *,
        smoothing: float = 0.0,
    ) -> Float[Array, " batch"]:
        """Return the cross-entropy, plus the auxiliary one's share in training."""
        loss = cross_entropy(outputs.logits, labels, smoothing=smoothing)
        for logits in outputs.extra.values():
            loss += self.auxiliary * cross_entropy(logits, labels, smoothing=smoothing)
        return loss


class InceptionV3(imagenet.Published):
    """The published Inception v3, `keras.applications.InceptionV3`, with a new head.

    22,857,002 parameters, of which 34,432 are BatchNorm's statistics; 21,802,784 are
    the body's. Its convolutions are smaller or flatter than GoogLeNet's: two of 3x3
    instead of 5x5, 1x7 and 7x1 instead of 7x7. Layers are numbered as Keras does.

    Szegedy et al., 2016: https://arxiv.org/abs/1512.00567
    """

    # Numbers of convolutions: in the stem, and in each module.
    convolutions: ClassVar = (5, 7, 7, 7, 4, 10, 10, 10, 10, 6, 9, 9)
    scale = "tf"
    input_size: int = imagenet.input_size(75, "1x1", trained_on=299)

    def body(self) -> tuple[tuple[str, ...], ...]:
        """Return the names of the layers of the stem and of each module."""
        numbers = itertools.count()
        stages = (itertools.islice(numbers, count) for count in self.convolutions)
        return tuple(sum(map(imagenet.numbered, stage), ()) for stage in stages)

    def run_stage(self, x: Maps, stage: int, *, train: bool) -> Maps:
        """Compute the stem, or a module. The order of convolutions is Keras's."""
        of_each = {"use_scale": False, "train": train, "dtype": self.dtype}
        convolve = functools.partial(_convolve, **of_each)
        numbers = itertools.count(sum(self.convolutions[:stage]))

        def conv(x: Maps, features: int, *size: int) -> Maps:
            names, size = imagenet.numbered(next(numbers)), (size[0], size[-1])
            return convolve(x, names, features, size)

        def valid(x: Maps, features: int, size: int, stride: int = 2) -> Maps:
            names = imagenet.numbered(next(numbers))
            options = {"strides": (stride, stride), "padding": "VALID"}
            return convolve(x, names, features, (size, size), **options)

        if stage == 0:
            x = conv(valid(valid(x, 32, 3), 32, 3, 1), 64, 3)
            x = valid(conv(max_pool(x, 3, 2), 80, 1), 192, 3, 1)
            return max_pool(x, 3, 2)
        module = stage - 1
        if module < 3:
            ones, fives = conv(x, 64, 1), conv(conv(x, 48, 1), 64, 5)
            twice = conv(conv(conv(x, 64, 1), 96, 3), 96, 3)
            y = average_pool(x, 3, 1, "SAME")
            branches = [ones, fives, twice, conv(y, 32 if module == 0 else 64, 1)]
        elif module == 3:
            threes, twice = valid(x, 384, 3), conv(conv(x, 64, 1), 96, 3)
            branches = [threes, valid(twice, 96, 3), max_pool(x, 3, 2)]
        elif module < 8:
            n = (128, 160, 160, 192)[module - 4]
            ones = conv(x, 192, 1)
            sevens = conv(conv(conv(x, n, 1), n, 1, 7), 192, 7, 1)
            twice = conv(conv(conv(x, n, 1), n, 7, 1), n, 1, 7)
            twice = conv(conv(twice, n, 7, 1), 192, 1, 7)
            pooled = conv(average_pool(x, 3, 1, "SAME"), 192, 1)
            branches = [ones, sevens, twice, pooled]
        elif module == 8:
            threes = valid(conv(x, 192, 1), 320, 3)
            sevens = conv(conv(conv(x, 192, 1), 192, 1, 7), 192, 7, 1)
            branches = [threes, valid(sevens, 192, 3), max_pool(x, 3, 2)]
        else:
            ones, y = conv(x, 320, 1), conv(x, 384, 1)
            threes = [conv(y, 384, 1, 3), conv(y, 384, 3, 1)]
            y = conv(conv(x, 448, 1), 384, 3)
            twice = [conv(y, 384, 1, 3), conv(y, 384, 3, 1)]
            pooled = conv(average_pool(x, 3, 1, "SAME"), 192, 1)
            branches = [ones, *threes, *twice, pooled]
        return jnp.concatenate(branches, axis=-1)


def _convolve(
    x: Maps,
    names: tuple[str, ...],
    features: int,
    size: tuple[int, int],
    *,
    train: bool,
    dtype: DTypeLike,
    use_scale: bool = True,
    **options: Any,
) -> Maps:
    """Convolve, normalize and apply ReLU, in two layers of these names."""
    options |= {"use_bias": False, "kernel_init": HE_NORMAL}
    conv = layers.Conv(features, size, dtype=dtype, name=names[0], **options)
    norm = layers.BatchNorm(relu=True, use_scale=use_scale, dtype=dtype, name=names[1])
    return norm(conv(x), use_running_average=not train)
