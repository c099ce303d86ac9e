"""Every field that an experiment has, with its default and its meaning.

Not an experiment itself: the other files import `get_config` and change a few lines.
Any field can be overridden on the command line, e.g. `--config.seed=3` or
`--config.phases[0].epochs=5`. A field that is not listed here does not exist: setting
it is an error.
"""

from collections.abc import Callable, Mapping

from ml_collections import config_dict

from mnist_jax.errors import UserError
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
    # Parameters that stay as they are: regular expressions, matched from the beginning
    # of names such as "block1_conv1/kernel".
    phase.freeze = ()
    # Parameters that learn at a share of the learning rate: "REGEX=FACTOR", e.g.
    # "block[12]_=0.1". The first that matches a name counts.
    phase.layer_rates = ()
    # Whether what a frozen first part of the network makes of the images is computed
    # once, and not anew in each epoch: "auto" where that is possible (the network can
    # be taken apart, and images are not augmented), or "never".
    phase.reuse_features = "auto"

    phase.optimizer = config_dict.ConfigDict()
    # One of mnist_jax.training.optimizer.OPTIMIZERS: "adam", "adamw", "rmsprop" (all
    # three with Keras's arithmetic, the place of epsilon included) or "sgd".
    phase.optimizer.name = "adam"
    # The largest that the schedule gives; for "constant", the only one.
    phase.optimizer.learning_rate = 1e-3
    # Adam and AdamW: decay rates of the first and the second moment.
    phase.optimizer.b1 = 0.9
    phase.optimizer.b2 = 0.999
    # Adam, AdamW, RMSprop: added to the root of the second moment. Keras's default.
    phase.optimizer.eps = 1e-7
    # RMSprop: decay rate of the squared gradient's mean, Keras's `rho`, and whether eps
    # is added within the root, as Keras does since 2022, or to it, as it did before.
    phase.optimizer.decay = 0.9
    phase.optimizer.eps_in_sqrt = False
    # SGD.
    phase.optimizer.momentum = 0.0
    phase.optimizer.nesterov = False
    # AdamW: share of a kernel, times the learning rate, that goes each step. Biases and
    # BatchNorm's parameters do not decay.
    phase.optimizer.weight_decay = 0.0
    # Gradients whose norm (of all together) is larger are scaled to it. 0: as they are.
    phase.optimizer.clip_norm = 0.0

    # How the learning rate moves from step to step of the phase.
    phase.schedule = config_dict.ConfigDict()
    # One of mnist_jax.training.schedules.SCHEDULES: "constant", "cosine", "one_cycle"
    # or "exponential".
    phase.schedule.name = "constant"
    # Epochs (or a part of one) in which it first grows linearly from almost 0. They
    # are a part of the phase's epochs. "one_cycle" warms up by itself.
    phase.schedule.warmup_epochs = 0.0
    # "cosine", "one_cycle": what it comes down to, as a share of the largest.
    phase.schedule.final_factor = 0.0
    # "one_cycle": share of the phase in which the learning rate grows, and the first
    # step's learning rate as a share of the largest.
    phase.schedule.rising = 0.3
    phase.schedule.first_factor = 0.04
    # "exponential": what an epoch multiplies the learning rate by.
    phase.schedule.decay_rate = 0.95

    # Lower the learning rate when a figure gets no better, as Keras's ReduceLROnPlateau
    # does; multiplies whatever the schedule gives.
    phase.plateau = config_dict.ConfigDict()
    # "none", "train_loss", "val_loss" or "val_accuracy".
    phase.plateau.monitor = "none"
    # Epochs without improvement before a reduction.
    phase.plateau.patience = 3
    # What a reduction multiplies the learning rate by.
    phase.plateau.factor = 0.5
    # What counts as an improvement: more than this, absolutely.
    phase.plateau.min_delta = 1e-4
    # Epochs after a reduction that are not counted.
    phase.plateau.cooldown = 0
    # The learning rate's floor.
    phase.plateau.min_learning_rate = 0.0

    # End the phase when a figure gets no better, as Keras's EarlyStopping does.
    phase.early_stopping = config_dict.ConfigDict()
    # "none", "train_loss", "val_loss" or "val_accuracy".
    phase.early_stopping.monitor = "none"
    # Epochs without improvement before the end.
    phase.early_stopping.patience = 6
    # What counts as an improvement: more than this, absolutely.
    phase.early_stopping.min_delta = 0.0
    # Whether the phase ends with the weights of its best epoch by this monitor, however
    # it ends. Otherwise with those of its last.
    phase.early_stopping.restore_best = False

    # Share of the label that is spread evenly over all ten digits, in training.
    phase.label_smoothing = 0.0
    # Decay rate of an exponential moving average of the weights (and of BatchNorm's
    # statistics), which is then what validation, the best epoch and the test use.
    # Smaller in the first steps: min(ema_decay, (1 + step) / (10 + step)). 0: none.
    phase.ema_decay = 0.0
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
    # VGG only: height and width that images are brought to, at least 32. 0: the
    # network's own.
    config.model.input_size = 0
    # VGG only: what its three channels hold. "unit": grey values in 0..1, as in the
    # report. "imagenet": what Keras's ImageNet weights were trained on. "torch": what
    # torchvision's were.
    config.model.preprocess = "unit"
    # VGG only: where kernels that are drawn start: "glorot_uniform", as in Keras, or
    # "he_normal", which deep networks without BatchNorm learn from sooner.
    config.model.kernel_init = "glorot_uniform"
    # Weights to begin with: "none", "imagenet" (VGG's of Keras, downloaded once), a
    # file of weights (.h5, .weights.h5, .pth, .safetensors), or the folder of a run
    # of this network, whose best epoch's are taken.
    config.model.pretrained = "none"
    # Which parameters are taken from there, the others being drawn: regular
    # expressions, as in a phase's `freeze`.
    config.model.pretrained_layers = (".*",)

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
    # What the run is tested on at its end: "test", or "val" as long as recipes are
    # being chosen, so that the test images play no part in the choice.
    config.data.test_on = "test"

    # Random changes of the training images, drawn anew each step. Off where 0.
    config.augment = config_dict.ConfigDict()
    # Degrees to either side.
    config.augment.rotation = 0.0
    # Rows and columns by factors of their own, from 1 - zoom to 1 + zoom.
    config.augment.zoom = 0.0
    # Share of the height and of the width, to either side, not in whole pixels.
    config.augment.shift = 0.0
    # Degrees to either side.
    config.augment.shear = 0.0
    # What the warp turns about: "image", the middle of the image, or "report", a pixel
    # further down and right, as the Keras that the report used had it.
    config.augment.centre = "image"
    # Elastic deformation: standard deviation of the displacements in pixels, and the
    # width of the Gaussian that smoothes them, in pixels.
    config.augment.elastic = 0.0
    config.augment.elastic_smoothness = 4.0
    # Share of the images in which a rectangle is filled with noise, and the rectangle's
    # area, from and to, as a share of the image's.
    config.augment.erasing = 0.0
    config.augment.erasing_area = (0.02, 0.2)

    # The stretches of training, one after the other.
    config.phases = (get_phase(),)

    config.best = config_dict.ConfigDict()
    # Which epoch's weights are kept in checkpoints/best: those with the lowest
    # "val_loss" or "train_loss", or the highest "val_accuracy".
    config.best.monitor = "val_loss"

    # Whose test accuracy is the run's result: the "last" epoch's weights or the "best".
    # Both are evaluated; which one counts is said here, before the test set is seen.
    config.test_weights = "last"
    # Test accuracy that the report gives for this network, for the table of results; 0:
    # it gives none.
    config.report_accuracy = 0.0
    # What the network computes in: "float32" or "bfloat16". Parameters, BatchNorm's
    # statistics, the loss and the optimizer are float32 in any case. bfloat16 is faster
    # on GPUs, on TPUs, and with oneDNN on CPUs that have it (AVX512_BF16, AMX).
    config.dtype = "float32"
    # What computes convolutions and max pools on a CPU: "onednn", an optional package
    # (`make native`) that is about twice as fast, "xla", or "auto": oneDNN where it can
    # be used, and in a run that goes on what it began with.
    config.convolutions = "auto"
    # How several devices share a batch: "jit" over a mesh, or the same step under
    # "pmap". Neither changes results, beyond rounding; one device needs neither.
    config.parallel = "jit"
    # Images a call in evaluation; changes speed and memory, not results.
    config.eval_batch_size = 1000
    # Megabytes that the features of frozen layers may take, of the training and the
    # validation images together (see a phase's `reuse_features`). Beyond that they are
    # not kept: the frozen layers are computed anew in each epoch. 0: never keep them.
    config.features_megabytes = 1000.0
    # Training steps in one call to the device, as one `lax.scan`. 0: a whole epoch on
    # an accelerator; on a CPU some dozens with oneDNN's convolutions and 1 with XLA's,
    # whose gradients are 25 to 100 times slower inside a loop.
    config.steps_per_call = 0
    return config


def with_variant(
    config: Config, variant: str, variants: Mapping[str, Callable[[Config], None]]
) -> Config:
    """Return the config, changed by the variants that `--config=FILE:VARIANT` names.

    Args:
        config: of the experiment; its name gets "-" and the variant's, for each.
        variant: what stands after the colon: none, or some with commas between, each of
            which changes what those before it made.
        variants: the known ones, each a function that changes a config.

    Raises:
        UserError: there is no such variant.
    """
    for each in variant.split(",") if variant else ():
        if each not in variants:
            known = f"known: {', '.join(variants)}" if variants else "it has none"
            raise UserError(
                f"--config=...:{variant}: {config.name} has no such variant as "
                f"{each!r} ({known})."
            )
        variants[each](config)
        config.name = f"{config.name}-{each}"
    return config


def train_better(config: Config, *, learning_rate: float, epochs: int) -> None:
    """Change a config to the recipe that `:tuned` names; why is in docs/recipes.md.

    Args:
        config: of a network of its own; gets a single phase.
        learning_rate: the largest of the schedule.
        epochs: of the phase.
    """
    config.augment.update(rotation=10.0, zoom=0.1, shift=0.05)
    config.test_weights = "last"
    phase = get_phase()
    phase.update(epochs=epochs, batch_size=128, label_smoothing=0.05, ema_decay=0.999)
    phase.optimizer.update(name="adamw", learning_rate=learning_rate, weight_decay=1e-4)
    phase.schedule.update(name="cosine", warmup_epochs=1.0)
    config.phases = (phase,)
