"""A small AlexNet on MNIST, with a modern recipe.

python run.py --config=configs/alexnet.py

Test accuracy and time: not measured.
"""

from ml_collections import ConfigDict

from configs import base


def get_config(variant: str = "") -> ConfigDict:
    """Return the recipe of the small networks, at half their learning rate."""
    config = base.get_config()
    config.name = "alexnet"
    config.model = base.get_model("alexnet")
    base.train_better(config, learning_rate=1.5e-3, epochs=20, weight_decay=0.05)
    config.augment.update(rotation=15.0, zoom=0.15, shift=0.1, fade=1 / 3)
    return base.with_variants(config, variant, {})
