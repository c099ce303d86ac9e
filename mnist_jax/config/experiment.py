"""The sections of a config and their fields."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from mnist_jax.config.augment import Augment
from mnist_jax.config.fields import (
    BELOW_ONE,
    SHARE,
    ConfigError,
    is_name,
    option,
    parse,
)

Monitor = Literal["train_loss", "val_loss", "val_accuracy"]
MonitorOrNone = Literal["none", "train_loss", "val_loss", "val_accuracy"]

OFF = "none"
"""The monitor that turns a plateau or early stopping off."""

# The seeds that JAX and NumPy accept.
_SEED: dict[str, Any] = {"at_least": 0, "below": 2**32}


@dataclass(frozen=True)
class Optimizer:
    """How gradients become updates of the parameters."""

    name: Literal["adam", "adamw", "rmsprop", "sgd"] = option(
        "adam",
        "The first three compute the same as Keras's, the place of epsilon included. "
        'Or "my_optimizers:lion": see docs/extending.md.',
        importable=True,
    )
    learning_rate: float = option(1e-3, "Largest rate of the schedule.", above=0)
    b1: float = option(0.9, "Adam, AdamW: decay of the first moment.", **BELOW_ONE)
    b2: float = option(0.999, "Adam, AdamW: decay of the second moment.", **BELOW_ONE)
    eps: float = option(1e-7, "Added to the root of the second moment.", above=0)
    decay: float = option(
        0.9, "RMSprop: decay of the mean square, Keras's `rho`.", **BELOW_ONE
    )
    eps_in_sqrt: bool = option(
        False,
        "RMSprop: whether epsilon is added inside the root, as in Keras since 2022.",
    )
    momentum: float = option(0.0, "SGD: decay rate of the trace.", **BELOW_ONE)
    nesterov: bool = option(False, "SGD: whether momentum is Nesterov's.")
    weight_decay: float = option(
        0.0,
        "AdamW: decay of the kernels per step, multiplied by the learning rate. Biases "
        "and BatchNorm's parameters do not decay.",
        at_least=0,
    )
    clip_norm: float = option(
        0.0, "Gradients of a larger global norm are scaled to this. 0: off.", at_least=0
    )


@dataclass(frozen=True)
class Schedule:
    """How the learning rate changes from step to step of a phase."""

    name: Literal["constant", "cosine", "one_cycle", "exponential"] = option(
        "constant", "Shape of the schedule."
    )
    warmup_epochs: float = option(
        0.0,
        "Epochs of linear warm-up from nearly 0, at the start of the phase. Must be 0 "
        "for one_cycle, which warms up by itself.",
        at_least=0,
    )
    final_factor: float = option(
        0.0,
        "cosine, one_cycle: the final learning rate, as a share of the largest.",
        **SHARE,
    )
    rising: float = option(
        0.3, "one_cycle: share of the phase before the peak.", **BELOW_ONE
    )
    first_factor: float = option(
        0.04, "one_cycle: the first learning rate, as a share of the largest.", **SHARE
    )
    decay_rate: float = option(
        0.95, "exponential: factor of the learning rate per epoch.", above=0, at_most=1
    )


@dataclass(frozen=True)
class Plateau:
    """Lowers the learning rate when a figure stops improving (ReduceLROnPlateau)."""

    monitor: MonitorOrNone = option("none", "The figure to watch.")
    patience: int = option(3, "Epochs to wait for an improvement.", at_least=0)
    factor: float = option(0.5, "Factor of a reduction.", above=0, below=1)
    min_delta: float = option(1e-4, "An improvement is larger than this.", at_least=0)
    cooldown: int = option(0, "Epochs after a reduction that do not count.", at_least=0)
    min_learning_rate: float = option(0.0, "No rate is reduced below this.", at_least=0)


@dataclass(frozen=True)
class EarlyStopping:
    """Ends a phase when a figure stops improving (Keras's EarlyStopping)."""

    monitor: MonitorOrNone = option("none", "The figure to watch.")
    patience: int = option(6, "Epochs to wait for an improvement.", at_least=0)
    min_delta: float = option(0.0, "An improvement is larger than this.", at_least=0)
    restore_best: bool = option(
        False,
        "Whether the phase ends with the weights of its best epoch by this monitor, "
        "even if it is not stopped early.",
    )


@dataclass(frozen=True)
class Phase:
    """A stretch of training with one optimizer."""

    name: str = option("train", "A name for messages and results.")
    epochs: int = option(50, "Passes over the training images.", at_least=1)
    batch_size: int = option(
        86,
        "Images per step. Each epoch draws a new permutation, and drops the images "
        "left over.",
        at_least=1,
    )
    steps_per_epoch: int = option(
        0,
        "Steps of an epoch. 0: as many as one pass over the training images takes.",
        at_least=0,
    )
    start_from: Literal["last", "best"] = option(
        "last", "Which epoch's weights a phase after the first starts from."
    )
    freeze: tuple[str, ...] = option(
        (),
        "Parameters that are not trained: regular expressions, matched at the start of "
        'names such as "block1_conv1/kernel".',
    )
    layer_rates: tuple[str, ...] = option(
        (),
        'Parameters with a learning rate of their own: "REGEX=FACTOR", for example '
        '"block[12]_=0.1". The first expression that matches a name applies.',
    )
    reuse_features: Literal["auto", "never"] = option(
        "auto",
        "Whether the output of frozen first layers is computed once for all epochs. "
        '"auto": if the network can be cut there and images are not augmented.',
    )
    optimizer: Optimizer = option(Optimizer(), "From gradients to updates.")
    schedule: Schedule = option(Schedule(), "The learning rate, step by step.")
    plateau: Plateau = option(
        Plateau(), "Lower learning rate when a figure stops improving."
    )
    early_stopping: EarlyStopping = option(
        EarlyStopping(), "End of the phase when a figure stops improving."
    )
    label_smoothing: float = option(
        0.0, "Share of each label that is spread over all classes.", **BELOW_ONE
    )
    ema_decay: float = option(
        0.0,
        "Decay rate of an exponential moving average of the weights and of BatchNorm's "
        "statistics, which validation and the test then use. It is "
        "min(ema_decay, (1 + step) / (10 + step)). 0: no average.",
        **BELOW_ONE,
    )
    batch_norm_momentum: float = option(
        1.0,
        "Upper limit of the decay rate of BatchNorm's running statistics. The networks "
        "of this package have 0.99, as Keras has. Unlike in Keras, the rate is at most "
        "step / (step + 1), so that the initial statistics do not count.",
        **SHARE,
    )


@dataclass(frozen=True)
class Model:
    """The network, its initial weights, and its own options."""

    name: str = option(
        "lenet5", 'A network of this package, or "my_nets:MLP": see docs/extending.md.'
    )
    pretrained: str = option(
        "none",
        'Initial weights: "none", "imagenet" (those of Keras, downloaded once), a file '
        "(.h5, .weights.h5, .keras, .pth, .safetensors), or the folder of a run of the "
        "same network.",
    )
    pretrained_layers: tuple[str, ...] = option(
        (".*",),
        "Parameters to load from there, by regular expressions as in `freeze`.",
    )
    options: Mapping[str, Any] = field(default_factory=dict)
    """The fields of the network's module; `models.create` checks them."""


@dataclass(frozen=True)
class Data:
    """The images: their source and how they are split."""

    source: str = option(
        "mnist",
        '"mnist", "fashion_mnist", "kmnist", "emnist_digits", "emnist_letters", '
        '"emnist_balanced", "qmnist": the published files. "tfds": MNIST through '
        'TensorFlow Datasets. "digits": 1,797 digits that ship with scikit-learn, '
        'with no download. "idx", "folder", "npz", "csv": your own files; see '
        'docs/data.md. Or "my_data:load": see docs/extending.md.',
    )
    dir: str | None = option(
        None,
        "Folder of the data files; missing files are downloaded to it. Default: "
        "$MNIST_DIR, $FASHION_MNIST_DIR, $KMNIST_DIR, $EMNIST_DIR or $QMNIST_DIR if "
        "set, otherwise a folder in ~/.cache/mnist_jax.",
    )
    classes: tuple[str, ...] = option(
        (),
        "Names of the classes of your own files, in the order of their labels. "
        "Default: of a folder, the subfolders of train/; otherwise the ten digits.",
    )
    mirrors: tuple[str, ...] = option(
        (
            "https://storage.googleapis.com/cvdf-datasets/mnist/",
            "https://ossci-datasets.s3.amazonaws.com/mnist/",
        ),
        "Where to download from, tried in turn. With this default, which is for "
        "MNIST, other sets are downloaded from where they are published.",
    )
    val_size: int = option(6000, "Images of the training set held out for validation.")
    split_seed: int = option(
        0, "Seed of the permutation that selects them, which all seeds share.", **_SEED
    )
    images_megabytes: float = option(
        4000.0,
        "Memory limit, in MB, for training images. Larger sets are read as they are "
        "needed, by one device and for one seed; see docs/data.md.",
        at_least=0,
    )
    train_size: int = option(
        0,
        "Images to train on, drawn without the validation images, each class by its "
        "share. 0: all.",
        at_least=0,
    )
    subset_seed: int = option(
        0,
        "Seed of this draw. `mnist-jax sweep` gives each run its own seed here too.",
        **_SEED,
    )
    test_on: Literal["test", "val"] = option(
        "test", 'Images of the final test. Use "val" while choosing recipes.'
    )


@dataclass(frozen=True)
class Best:
    """Which epoch is the best."""

    monitor: Monitor = option(
        "val_loss",
        "The best epoch is the one with the lowest loss or the highest accuracy. Its "
        "weights are kept.",
    )


@dataclass(frozen=True)
class Log:
    """What a run writes for other programs to follow it."""

    tensorboard: bool = option(
        False,
        "Whether to write an event file for TensorBoard into the run folder. Needs "
        "`pip install tensorboardX`.",
    )


@dataclass(frozen=True)
class Experiment:
    """A network, its data, and how it is trained and tested."""

    name: str = option(
        "base", "Names the run folder, runs/NAME, and the row of results."
    )
    seed: int = option(
        0,
        "Seed of initial parameters, order of images, dropout and augmentation.",
        **_SEED,
    )
    model: Model = option(Model(), "The network.")
    data: Data = option(Data(), "The images.")
    augment: Augment = option(Augment(), "Random changes of the training images.")
    phases: tuple[Phase, ...] = option(
        (Phase(),), "The phases of training, one after another."
    )
    best: Best = option(Best(), "Which epoch is the best.")
    test_weights: Literal["last", "best"] = option(
        "last",
        "Which epoch's weights give the result. Both are tested; this decides "
        "beforehand which counts.",
    )
    report_accuracy: float = option(
        0.0, "Accuracy of this network in the report, for tables of results. 0: none."
    )
    dtype: Literal["float32", "bfloat16"] = option(
        "float32",
        "Type that the network computes in. Parameters, BatchNorm's statistics, the "
        "loss and the optimizer are always float32. See docs/performance.md.",
    )
    convolutions: Literal["auto", "xla", "onednn"] = option(
        "auto",
        "What computes convolutions and max pools on a CPU: oneDNN (`make native`), "
        'about twice as fast with AVX-512, or XLA. "auto": oneDNN if available; a '
        "resumed run keeps what it started with.",
    )
    parallel: Literal["jit", "pmap"] = option(
        "jit", "How several devices share a batch: jit of shard_map, or pmap."
    )
    eval_batch_size: int = option(1000, "Images per call in evaluation.", at_least=1)
    features_megabytes: float = option(
        1000.0,
        "Memory limit, in MB, for reused features; larger ones are recomputed.",
        at_least=0,
    )
    steps_per_call: int = option(
        0,
        "Training steps per call to the device, in one `lax.scan`. 0: a whole epoch on "
        "an accelerator; on a CPU a few dozen with oneDNN's convolutions, and 1 with "
        "XLA's, whose gradients are 25 to 100 times slower inside a loop.",
        at_least=0,
    )
    log: Log = option(Log(), "What a run writes for other programs to follow it.")

    def __post_init__(self) -> None:
        """Raise ConfigError for a name that would lead out of the folder `runs`."""
        if not is_name(self.name):
            raise ConfigError(f"--config.name={self.name!r}: not the name of a folder.")


def from_stored(stored: Any, *, name: str = "config.json") -> Experiment:
    """Return the experiment of a config.json; a missing field has its default.

    Args:
        stored: the contents of the file.
        name: the name of the file, for messages.

    Raises:
        ConfigError: a field is unknown or has an invalid value.
    """
    return parse(stored, Experiment, flag=f"{name}: config")
