"""The work of all frameworks: the same networks, recipes and images."""

import importlib
import importlib.metadata
import os
from typing import Any, NamedTuple

import numpy as np

from mnist_jax.devices import memory

# The report's: degrees to either side, and shares.
ROTATION, ZOOM, SHIFT = 10.0, 0.1, 0.1

# Layers as the peers build them: a kind, and its arguments. Convolutions have channels,
# size, padding and activation, bare ones (without bias) channels, size and stride,
# separable ones channels in and out, dense layers units and activation; "add" has two
# lists of layers, whose outputs are added.
Layer = tuple[Any, ...]


def _convolutions(*channels: int, size: int) -> list[Layer]:
    return [("conv", n, size, "same", "relu") for n in channels]


_LENET5: list[Layer] = [
    ("pad", 2),
    ("conv", 6, 5, "valid", "tanh"),
    ("average_pool",),
    ("conv", 16, 5, "valid", "tanh"),
    ("average_pool",),
    ("flatten",),
    ("dense", 120, "tanh"),
    ("dense", 84, "tanh"),
]
_DOUBLE_CNN: list[Layer] = []
for _channels, _size in ((32, 5), (64, 3)):
    _DOUBLE_CNN += _convolutions(_channels, _channels, size=_size)
    _DOUBLE_CNN += [("max_pool",), ("dropout", 0.25)]
_DOUBLE_CNN += [("flatten",), ("dense", 256, "relu"), ("dropout", 0.5)]

_TRIPLE_CNN: list[Layer] = []
for _channels in (32, 64, 128):
    _TRIPLE_CNN += _convolutions(_channels, _channels, size=3)
    _TRIPLE_CNN += [("norm",), ("max_pool",), ("dropout", 0.25)]
_TRIPLE_CNN += [("flatten",)]
for _units, _rate in ((512, 0.5), (256, 0.4), (64, 0.3)):
    _TRIPLE_CNN += [("dense", _units, "relu"), ("norm",), ("dropout", _rate)]

_VGG16: list[Layer] = [("pad", 2), ("three_channels",)]
for _channels, _count in ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3)):
    _VGG16 += _convolutions(*[_channels] * _count, size=3)
    _VGG16 += [("max_pool",)]
_VGG16 += [("flatten",), ("dense", 512, "relu"), ("dropout", 0.5)]


_ACTIVATE: list[Layer] = [("norm",), ("relu",)]
_RESNET: list[Layer] = [("bare_conv", 32, 3, 1)]
for _channels, _strides in ((32, (1,)), (64, (2, 1)), (128, (2, 1))):
    for _stride in _strides:
        _last: list[Layer] = [*_ACTIVATE, ("bare_conv", _channels, 3, 1)]
        _unit: list[Layer] = [("bare_conv", _channels, 3, _stride), *_last]
        if _stride == 1:
            _RESNET += [("add", [], [*_ACTIVATE, *_unit])]
        else:
            _shortcut: Layer = ("bare_conv", _channels, 1, _stride)
            _RESNET += [*_ACTIVATE, ("add", [_shortcut], _unit)]
_RESNET += [*_ACTIVATE, ("mean",)]


def _separable(*channels: int) -> list[Layer]:
    return [("separable", *channels), ("norm",), ("relu",)]


_XCEPTION: list[Layer] = [
    *(("bare_conv", 32, 3, 1), *_ACTIVATE, ("bare_conv", 64, 3, 2), *_ACTIVATE),
    (
        "add",
        [("bare_conv", 128, 1, 2), ("norm",)],
        [
            *_separable(64, 128),
            ("separable", 128, 128),
            ("norm",),
            ("overlapping_pool",),
        ],
    ),
    *3 * (("add", [], [("relu",), *3 * _separable(128, 128)][:-1]),),
    *(*_separable(128, 192), *_separable(192, 256), ("mean",), ("dropout", 0.3)),
]


class Recipe(NamedTuple):
    """How a network is trained; an epoch here takes seconds on two cores."""

    layers: list[Layer]  # but for the last, which gives the logits
    optimizer: str
    learning_rate: float
    batch_size: int
    steps: int


RECIPES = {
    "lenet5": Recipe(_LENET5, "adam", 1e-3, 86, 300),
    "double_cnn": Recipe(_DOUBLE_CNN, "rmsprop", 1e-3, 86, 20),
    "triple_cnn": Recipe(_TRIPLE_CNN, "adam", 1e-3, 86, 20),
    "vgg16": Recipe(_VGG16, "adam", 1e-5, 32, 6),
    "resnet": Recipe(_RESNET, "adamw", 3e-3, 128, 12),
    "xception": Recipe(_XCEPTION, "adamw", 3e-3, 128, 12),
}

_MODULES = {
    "mnist_jax": "benchmarks.ours",
    "keras": "benchmarks.keras_tensorflow",
    "torch": "benchmarks.pytorch",
}
# With the options that throughput.py describes.
FRAMEWORKS = (
    "mnist_jax",
    "mnist_jax:xla",
    "mnist_jax:bfloat16",
    "keras:kept",
    "torch:kept",
)


class Work(NamedTuple):
    """The work of one measurement: an epoch of some steps."""

    network: str
    augmented: bool
    steps: int

    @property
    def recipe(self) -> Recipe:
        """How the network is trained."""
        return RECIPES[self.network]

    @property
    def images(self) -> int:
        """How many images an epoch takes."""
        return self.steps * self.recipe.batch_size


def prepare(framework: str, work: Work):
    """Build and compile a network in a framework.

    Returns:
        A function that trains an epoch and returns its seconds, and the versions of
        the framework's packages.
    """
    name, *options = framework.split(":")
    if name == "mnist_jax" or "kept" in options:
        memory.keep()
    module = importlib.import_module(_MODULES[name])
    versions = {name: importlib.metadata.version(name) for name in module.PACKAGES}
    return module.prepare(work, options), versions


def make_images(work: Work) -> tuple[np.ndarray, np.ndarray]:
    """Return noise of MNIST's shape, uint8, and labels; speed ignores them."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (work.images, 28, 28, 1), dtype=np.uint8)
    return images, rng.integers(0, 10, work.images, dtype=np.uint8)


def cores() -> int:
    """Return how many cores this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1
