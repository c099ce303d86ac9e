"""A network for handwriting that people photograph, trained on MNIST alone.

python run.py --config=configs/handwriting.py

Pens are thicker, thinner and fainter, hands lean and wobble; some digits get strokes
that MNIST's writers hardly used. See docs/predict.md.

Test accuracy: mean 0.9955, sd 0.0002, n = 3; seed 0, 0.9956, is the network in the
package.
"""

from ml_collections import ConfigDict

from mnist_jax.configs import base

_STROKES = (
    (0, 0.1, 0.5, 0.4, -0.25, -0.4, 0.25),  # slash
    (1, 0.3, 0.05, 0.0, 0.0, 0.4, -0.3),  # upstroke
    (1, 0.2, 0.97, 0.0, -0.25, 0.0, 0.25),  # foot
    (2, 0.1, 0.97, 0.0, 0.0, 0.0, 0.4),  # long foot
    (3, 0.1, 0.03, 0.0, -0.25, 0.0, 0.3),  # flat top
    (7, 0.3, 0.5, 0.0, -0.25, 0.0, 0.25),  # bar
    (9, 0.25, 0.97, 0.0, 0.0, -0.08, -0.4),  # tail
)


def get_config(variant: str = "") -> ConfigDict:
    """Return the recipe: AdamW, strong augmentation with other pens and hands."""
    config = base.get_config()
    config.name = "handwriting"
    config.model = base.get_model("fast_cnn")
    config.model.width = 2
    base.train_better(config, learning_rate=4e-3, epochs=10)
    config.augment.update(zoom=0.15, shear=15.0, elastic=0.8)
    config.augment.update(thickness=0.7, blur=0.7, contrast=0.2, strokes=_STROKES)
    return base.with_variants(config, variant, {})
