"""LeNet-5 on MNIST, with the report's recipe; `:tuned` trains it better.

python run.py --config=configs/lenet5.py
python run.py --config=configs/lenet5.py:tuned
"""

from configs import base
from mnist_jax.typing import Config


def get_config(variant: str = "") -> Config:
    """Return the report's recipe: Adam 1e-3, batch 86, 50 epochs, nothing else."""
    config = base.get_config()
    config.name = "lenet5"
    config.report_accuracy = 0.9897
    return base.with_variant(config, variant, VARIANTS)


def _tuned(config: Config) -> None:
    """Train it better; how these were chosen is in docs/recipes.md."""
    config.augment.update(rotation=10.0, zoom=0.1, shift=0.05)
    phase = config.phases[0]
    phase.update(epochs=50, batch_size=128, label_smoothing=0.05, ema_decay=0.999)
    phase.optimizer.update(name="adamw", learning_rate=4e-3, weight_decay=1e-4)
    phase.schedule.update(name="cosine", warmup_epochs=1.0)


VARIANTS = {"tuned": _tuned}
