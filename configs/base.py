"""Every field that an experiment has, with its default and its meaning.

Not an experiment itself: the other files import `get_config` and change a few lines.
Any field can be overridden on the command line, e.g. `--config.seed=3` or
`--config.phases[0].epochs=5`. A field that is not listed here does not exist: setting
it is an error.
"""

from ml_collections import config_dict

from mnist_jax.typing import Config


def get_phase() -> Config:
    """One stretch of training with one optimizer; an experiment is a list of them."""
    phase = config_dict.ConfigDict()
    # Printed with the results, and in error messages.
    phase.name = "train"
    # Passes over the training images.
    phase.epochs = 50
    # Images a step. What is left over at the end of an epoch is dropped, as Keras does
    # when it is told the steps of an epoch; the next epoch's permutation picks anew.
    phase.batch_size = 86
    # Weights that a phase after the first goes on from: the "last" epoch's or the
    # "best".
    phase.start_from = "last"

    phase.optimizer = config_dict.ConfigDict()
    # One of mnist_jax.training.optimizer.OPTIMIZERS.
    phase.optimizer.name = "adam"
    phase.optimizer.learning_rate = 1e-3
    # Decay rates of the first and the second moment.
    phase.optimizer.b1 = 0.9
    phase.optimizer.b2 = 0.999
    # Keras's value, but Keras adds it before the bias correction of the second moment
    # and optax after: Keras's is in effect larger by 1 / sqrt(1 - b2**step), 32 times
    # at the first step and 1.3 times at the thousandth. Near enough: it matters only
    # where gradients are not much larger than 1e-6.
    phase.optimizer.eps = 1e-7
    return phase.lock()


def get_config() -> Config:
    """Return the defaults: LeNet-5 on MNIST with the report's recipe."""
    config = config_dict.ConfigDict()
    # Names the run folder (runs/<name>/...) and the row of the results table.
    config.name = "base"
    # Initial parameters, order of the images, dropout and augmentation.
    config.seed = 0

    config.model = config_dict.ConfigDict()
    # One of mnist_jax.models.MODELS.
    config.model.name = "lenet5"

    config.data = config_dict.ConfigDict()
    # "mnist": the four official files. "tfds": the same through TensorFlow Datasets.
    # "digits": 1,797 real digits that ship inside scikit-learn; needs no network.
    config.data.source = "mnist"
    # Folder of the data files. Unset: $MNIST_DIR if that is set, else
    # ~/.cache/mnist_jax. Files that are missing there are downloaded to it.
    config.data.dir = config_dict.placeholder(str)
    # Where to download from, tried in turn.
    config.data.mirrors = (
        "https://storage.googleapis.com/cvdf-datasets/mnist/",
        "https://ossci-datasets.s3.amazonaws.com/mnist/",
    )
    # Images held out of the training set to choose by; the rest is trained on.
    config.data.val_size = 6000
    # Which ones: a permutation drawn with this seed, apart from `seed` above, so that
    # runs with different seeds are compared on the same split.
    config.data.split_seed = 0

    # The stretches of training, one after the other.
    config.phases = (get_phase(),)

    config.best = config_dict.ConfigDict()
    # Which epoch's weights are kept in checkpoints/best: those with the lowest
    # "val_loss" or "train_loss", or the highest "val_accuracy".
    config.best.monitor = "val_loss"

    # Whose test accuracy is the run's result: the "last" epoch's weights or the "best".
    # Both are evaluated; which one counts is said here, before the test set is seen.
    config.test_weights = "last"
    # Images a call in evaluation; changes speed and memory, not results.
    config.eval_batch_size = 1000
    # Training steps in one call to the device, as one `lax.scan`. 0: chosen by backend:
    # 1 on the CPU, where XLA runs convolution gradients inside a loop 25 to 100 times
    # slower; a whole epoch on an accelerator.
    config.steps_per_call = 0
    return config
