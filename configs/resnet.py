"""The small ResNet on MNIST, and the published ResNet-50 with ImageNet's weights.

python run.py --config=configs/resnet.py
python run.py --config=configs/resnet.py:imagenet
python run.py --config=configs/resnet.py:head_only
python run.py --config=configs/resnet.py:first_stages=3
python run.py --config=configs/resnet.py:small_data

The variants but the last are those of `base.published` for `resnet50v2`.
Test accuracy, in bfloat16: 0.9970, n = 5; see docs/recipes.md. With ImageNet's weights:
not measured.
"""

from ml_collections import ConfigDict

from mnist_jax.configs import base

VARIANTS = base.published("resnet50v2", stages=5) | {"small_data": base.learn_from_few}


def get_config(variant: str = "") -> ConfigDict:
    """Return a recipe with one phase: strong augmentation that fades out, AdamW."""
    config = base.get_config()
    config.name = "resnet"
    config.model = base.get_model("resnet")
    base.train_better(config, learning_rate=3e-3, epochs=12, weight_decay=0.05)
    config.augment.update(rotation=15.0, zoom=0.15, shift=0.1, fade=1 / 3)
    return base.with_variants(config, variant, VARIANTS, alternatives=[VARIANTS])
