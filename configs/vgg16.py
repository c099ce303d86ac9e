"""VGG16 with ImageNet's weights, as in the report: train a new head, then everything.

python run.py --config=configs/vgg16.py
python run.py --config=configs/vgg16.py:augment
python run.py --config=configs/vgg16.py:head_only
python run.py --config=configs/vgg16.py:first_blocks=2,augment

Variants, separated by commas, in any order:
  head_only        the first phase alone
  first_blocks=N   only the first N of the five blocks from ImageNet
  scratch          no weights from ImageNet
  frozen           the blocks from ImageNet are not trained
  tuned            a better recipe with one phase; see docs/recipes.md
  small_data       a recipe with one phase for 1,000 training images or so
  augment          the augmentation of the CNNs
  imagenet_input   grey values of 0..255 minus ImageNet's mean, instead of 0..1
The first three exclude each other, and so do scratch and frozen, and tuned and
small_data.

The weights, 59 MB, are downloaded once; --config.model.pretrained=FILE takes a file.
Test accuracy: `:first_blocks=2,tuned` mean 0.9960, sd 0.0001, n = 3; `:scratch,tuned`
mean 0.9960, sd 0.0002, n = 3; `:first_blocks=3,tuned` mean 0.9960, sd 0.0002, n = 2;
not measured with all of ImageNet's weights.
Time of either: three quarters of an hour on two x86 cores, one minute on an H200.
"""

import functools

from ml_collections import ConfigDict

from mnist_jax.configs import base


def get_config(variant: str = "") -> ConfigDict:
    """Return the report's recipe: a head on the frozen body, then fine-tuning."""
    config = base.get_config()
    config.name = "vgg16"
    config.report_accuracy = 0.993399
    config.model = base.get_model("vgg16")
    config.model.update(pretrained="imagenet", pretrained_layers=("block",))
    config.eval_batch_size = 500
    base.train_head_first(config, ("block",))
    return base.with_variants(config, variant, VARIANTS, alternatives=ALTERNATIVES)


def _head_only(config: ConfigDict) -> None:
    config.phases = config.phases[:1]


def _first_blocks(n: int, config: ConfigDict) -> None:
    config.model.pretrained_layers = (f"block[1-{n}]_",)
    config.phases = config.phases[:1]
    config.phases[0].update(name="train", freeze=())


def _frozen(config: ConfigDict) -> None:
    config.phases = config.phases[:1]
    config.phases[0].freeze = config.model.pretrained_layers


def _scratch(config: ConfigDict) -> None:
    _first_blocks(1, config)
    config.model.update(pretrained="none", pretrained_layers=(".*",))


def _augment(config: ConfigDict) -> None:
    config.augment.update(rotation=10.0, zoom=0.1, shift=0.1)
    config.report_accuracy = 0.9936


def _imagenet_input(config: ConfigDict) -> None:
    config.model.preprocess = "imagenet"


def _tuned(config: ConfigDict) -> None:
    config.augment.update(rotation=10.0, zoom=0.1, shift=0.05)
    config.test_weights = "last"
    phase = base.get_phase()
    phase.update(epochs=6, batch_size=64, label_smoothing=0.05)
    phase.optimizer.update(name="adamw", learning_rate=1e-3, weight_decay=0.05)
    phase.schedule.update(name="one_cycle")
    freeze = config.phases[-1].freeze
    config.phases = (phase,)
    _train_body_slowly(config, freeze)


def _small_data(config: ConfigDict) -> None:
    freeze = config.phases[-1].freeze
    base.learn_from_few(config, learning_rate=1e-3)
    _train_body_slowly(config, freeze)


def _train_body_slowly(config: ConfigDict, freeze: tuple[str, ...]) -> None:
    config.model.kernel_init = "he_normal"
    phase = config.phases[0]
    phase.optimizer.clip_norm = 1.0
    phase.freeze = freeze
    if config.model.pretrained != "none":
        phase.layer_rates = tuple(
            f"{pattern}=0.3" for pattern in config.model.pretrained_layers
        )


VARIANTS = {
    "head_only": _head_only,
    **{f"first_blocks={n}": functools.partial(_first_blocks, n) for n in range(1, 6)},
    "scratch": _scratch,
    "frozen": _frozen,
    "tuned": _tuned,
    "small_data": _small_data,
    "augment": _augment,
    "imagenet_input": _imagenet_input,
}
_BODIES = [name for name in VARIANTS if name.startswith("first_blocks=")]
ALTERNATIVES = (
    ("head_only", "scratch", *_BODIES),
    ("scratch", "frozen"),
    ("tuned", "small_data"),
)
