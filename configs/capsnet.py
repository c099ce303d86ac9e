"""A small capsule network with routing by agreement on MNIST, with a modern recipe.

python run.py --config=configs/capsnet.py

Test accuracy and time: not measured.
"""

from ml_collections import ConfigDict

from mnist_jax.configs import base


def get_config(variant: str = "") -> ConfigDict:
    """Return a recipe without label smoothing, which the margin loss does not need.

    As in the paper, images are shifted by up to two pixels, and not otherwise changed.
    """
    config = base.get_config()
    config.name = "capsnet"
    config.model = base.get_model("capsnet")
    base.train_better(config, learning_rate=3e-3, epochs=20, weight_decay=1e-4)
    config.augment.update(rotation=0.0, zoom=0.0, shift=2 / 28, fade=0.4)
    config.phases[0].label_smoothing = 0.0
    return base.with_variants(config, variant, {})
