"""A few images in two short phases, for any network: --config=FILE:NETWORK."""

from mnist_jax import data
from mnist_jax.configs import base
from mnist_jax.data import digits


@data.source(*"0123456789")
def few(_):
    """60 of the embedded digits to train on, 60 for validation, 40 to test."""
    train, test = digits.load()
    return (train.images[:120], train.labels[:120]), (
        test.images[:40],
        test.labels[:40],
    )


def get_config(variant="lenet5"):
    """Averages, a plateau, early stopping, restored weights, two optimizers."""
    config = base.get_config()
    config.name = f"torture-{variant}"
    config.model = base.get_model(variant)
    config.data.update(source="tests.torture.config:few", val_size=60)
    config.augment.shift = 0.1
    config.log.tensorboard = True
    first, second = base.get_phase(), base.get_phase()
    first.update(name="first", epochs=2, batch_size=20, ema_decay=0.9)
    first.plateau.update(monitor="train_loss", patience=1)
    second.update(name="second", epochs=4, batch_size=15, start_from="best")
    second.optimizer.update(name="sgd", learning_rate=0.03)
    second.early_stopping.update(monitor="train_loss", patience=1, restore_best=True)
    config.phases = (first, second)
    return config
