"""A network for handwriting that people photograph, trained on MNIST alone.

python run.py --config=configs/handwriting.py

Pens are thicker, thinner and fainter, hands lean and wobble; some 1s get an upstroke or
a foot, some 7s a bar. See docs/predict.md.

Test accuracy: 0.9948, n = 1 (seed 0), which is the network in the package.
"""

from ml_collections import ConfigDict

from mnist_jax.configs import base

_STROKES = (
    (1, 0.3, 0.05, 0.0, 0.0, 0.3, -0.3),  # upstroke
    (1, 0.2, 0.97, 0.0, -0.25, 0.0, 0.25),  # foot
    (7, 0.3, 0.5, 0.0, -0.25, 0.0, 0.25),  # bar
)


def get_config(variant: str = "") -> ConfigDict:
    """Return the recipe: AdamW, strong augmentation with other pens and hands."""
    config = base.get_config()
    config.name = "handwriting"
    config.model.name = "fast_cnn"
    base.train_better(config, learning_rate=4e-3, epochs=15)
    config.augment.update(zoom=0.15, shear=15.0, elastic=0.8)
    config.augment.update(thickness=0.7, blur=0.7, contrast=0.2, strokes=_STROKES)
    return base.with_variants(config, variant, {})
