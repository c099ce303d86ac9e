"""The report's triple CNN: three pairs of convolutions, with BatchNorm."""

import flax.linen as nn
from jaxtyping import Array, Float

from mnist_jax.models.layers import BatchNorm, Conv, Dense, Dropout, max_pool


class TripleCNN(nn.Module):
    """Three blocks of two ReLU convolutions, three dense layers.

    1,029,418 parameters, of which 2,112 are BatchNorm's statistics. BatchNorm comes
    once a block, after the second ReLU, and after every dense layer's.

    Attributes:
        num_classes: the number of logits.
    """

    num_classes: int = 10

    @nn.compact
    def __call__(
        self, images: Float[Array, "batch 28 28 1"], *, train: bool
    ) -> Float[Array, "batch classes"]:
        """Map images to logits.

        Args:
            images: grey values in 0..1, 0 being the background.
            train: with dropout, whose random stream is `dropout`, and with the batch's
                own mean and variance in BatchNorm.

        Returns:
            Unnormalised log-probabilities. The 64 penultimate features are sown as
            `features` into the collection `intermediates`.
        """
        x = images
        for block, channels in enumerate((32, 64, 128), start=1):
            for layer in (1, 2):
                name = f"block{block}_conv{layer}"
                x = nn.relu(Conv(channels, (3, 3), padding="SAME", name=name)(x))
            x = BatchNorm(use_running_average=not train, name=f"block{block}_norm")(x)
            x = max_pool(x, 2)  # 28 to 14 to 7 to 3: the last row and column drop out
            x = Dropout(0.25)(x, train=train)
        x = x.reshape(x.shape[0], -1)
        for layer, (units, rate) in enumerate(((512, 0.5), (256, 0.4), (64, 0.3)), 1):
            x = nn.relu(Dense(units, name=f"dense{layer}")(x))
            x = BatchNorm(use_running_average=not train, name=f"dense{layer}_norm")(x)
            if units == 64:
                self.sow("intermediates", "features", x)
            x = Dropout(rate)(x, train=train)
        return Dense(self.num_classes, name="logits")(x)
