"""The small AlexNet on MNIST, and the published one with ImageNet's weights.

python run.py --config=configs/alexnet.py
python run.py --config=configs/alexnet.py:imagenet
python run.py --config=configs/alexnet.py:head_only
python run.py --config=configs/alexnet.py:first_stages=2

The variants are those of `base.published` for `alexnet_owt`.
Test accuracy, in bfloat16: mean 0.9963, sd 0.0005, n = 3; see docs/recipes.md.
"""

from ml_collections import ConfigDict

from mnist_jax.configs import base

VARIANTS = base.published("alexnet_owt", stages=5)


def get_config(variant: str = "") -> ConfigDict:
    """Return a recipe with one phase, at half the learning rate of the others."""
    config = base.get_config()
    config.name = "alexnet"
    config.model = base.get_model("alexnet")
    base.train_better(config, learning_rate=1.5e-3, epochs=20, weight_decay=0.05)
    config.augment.update(rotation=15.0, zoom=0.15, shift=0.1, fade=1 / 3)
    return base.with_variants(config, variant, VARIANTS, alternatives=[VARIANTS])
