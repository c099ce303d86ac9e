"""The work of all frameworks: the same networks, recipes and images."""

import importlib
import os
from typing import NamedTuple

import numpy as np

from mnist_jax.devices import memory

# The report's: degrees to either side, and shares.
ROTATION, ZOOM, SHIFT = 10.0, 0.1, 0.1


class Recipe(NamedTuple):
    """How the report trains a network."""

    optimizer: str
    learning_rate: float
    batch_size: int


RECIPES = {
    "lenet5": Recipe("adam", 1e-3, 86),
    "double_cnn": Recipe("rmsprop", 1e-3, 86),
    "triple_cnn": Recipe("adam", 1e-3, 86),
    # Both phases of VGG16: everything, and the head on a frozen body.
    "vgg16": Recipe("adam", 1e-5, 32),
    "vgg16_head": Recipe("adam", 1e-4, 64),
}
NETWORKS = tuple(RECIPES)
# Per epoch: a few seconds on two cores.
STEPS = {
    "lenet5": 300,
    "double_cnn": 20,
    "triple_cnn": 20,
    "vgg16": 6,
    "vgg16_head": 20,
}
# Of VGG16's head: each includes this share of the work that is done once for all.
HEAD_EPOCHS = 50

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
    "keras",
    "keras:kept",
    "torch",
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


def environment(framework: str) -> dict[str, str]:
    """Return the additional environment variables of a framework's process."""
    if not framework.startswith("mnist_jax") and not framework.endswith(":kept"):
        return {}
    left_out = framework.split("-")[1:]
    settings = {} if "memory" in left_out else memory.settings()
    if "huge_pages" in left_out:
        return {k: v.replace("hugetlb=1", "hugetlb=0") for k, v in settings.items()}
    return settings


def prepare(framework: str, work: Work):
    """Build and compile a network in a framework.

    Returns:
        A function that trains an epoch and returns its seconds.
    """
    name, *left_out = framework.split("-")
    name, _, way = name.partition(":")
    module = importlib.import_module(_MODULES[name])
    if name == "keras":
        return module.prepare(work)
    if name == "torch":
        return module.prepare(work, "compiled" if way == "compiled" else "")
    for remedy in left_out:
        importlib.import_module("benchmarks.remedies").REMEDIES[remedy]()
    return module.prepare(work, way)


def versions(framework: str) -> dict[str, str]:
    """Return the versions of a framework and its backend."""
    name = framework.split("-")[0].partition(":")[0]
    return importlib.import_module(_MODULES[name]).versions()


def make_images(work: Work) -> tuple[np.ndarray, np.ndarray]:
    """Return noise of MNIST's shape, uint8, and labels; speed ignores them."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (work.images, 28, 28, 1), dtype=np.uint8)
    return images, rng.integers(0, 10, work.images, dtype=np.uint8)


def cores() -> int:
    """Return how many cores this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1
