"""The report's double CNN: two pairs of convolutions, no normalisation."""

import flax.linen as nn
from jaxtyping import Array, Float

from mnist_jax.models.layers import Conv, Dense, Dropout, max_pool


class DoubleCNN(nn.Module):
    """Two blocks of two ReLU convolutions, one dense layer; 887,530 parameters.

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
            train: with dropout, whose random stream is `dropout`.

        Returns:
            Unnormalised log-probabilities. The 256 penultimate features are sown as
            `features` into the collection `intermediates`.
        """
        x = images
        for block, (channels, size) in enumerate(((32, 5), (64, 3)), start=1):
            for layer in (1, 2):
                name = f"block{block}_conv{layer}"
                x = nn.relu(Conv(channels, (size, size), padding="SAME", name=name)(x))
            x = max_pool(x, 2)
            x = Dropout(0.25)(x, train=train)
        x = x.reshape(x.shape[0], -1)
        x = nn.relu(Dense(256, name="dense1")(x))
        self.sow("intermediates", "features", x)
        x = Dropout(0.5)(x, train=train)
        return Dense(self.num_classes, name="logits")(x)
