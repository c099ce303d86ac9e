"""LeNet-5 on MNIST, with the report's recipe.

python run.py --config=configs/lenet5.py
"""

from configs import base
from mnist_jax.typing import Config


def get_config() -> Config:
    """Return the report's recipe: Adam 1e-3, batch 86, 50 epochs, nothing else."""
    config = base.get_config()
    config.name = "lenet5"
    return config
