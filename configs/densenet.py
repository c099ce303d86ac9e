"""The small DenseNet on MNIST, and the published DenseNet-121 with ImageNet's weights.

python run.py --config=configs/densenet.py
python run.py --config=configs/densenet.py:imagenet
python run.py --config=configs/densenet.py:head_only
python run.py --config=configs/densenet.py:first_stages=3

The variants are those of `base.published` for `densenet121`.
Test accuracy, in bfloat16: mean 0.9962, sd 0.0002, n = 3; see docs/recipes.md. With
ImageNet's weights: not measured.
"""

from ml_collections import ConfigDict

from mnist_jax.configs import base

VARIANTS = base.published("densenet121", stages=5)


def get_config(variant: str = "") -> ConfigDict:
    """Return a recipe with one phase: strong augmentation that fades out, AdamW."""
    config = base.get_config()
    config.name = "densenet"
    config.model = base.get_model("densenet")
    base.train_better(config, learning_rate=3e-3, epochs=12, weight_decay=0.05)
    config.augment.update(rotation=15.0, zoom=0.15, shift=0.1, fade=1 / 3)
    return base.with_variants(config, variant, VARIANTS, alternatives=[VARIANTS])
