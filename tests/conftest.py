"""What all tests share: strictness, a small data set, commands as a user runs them."""

import contextlib
import gc
import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

# Before JAX reads it, and for the commands that tests start too.
os.environ.setdefault("JAX_PLATFORMS", "cpu")
from jaxtyping import install_import_hook

# In what computes with arrays, every call checks the types and the shapes of the
# annotations. Not in what checks them itself (`data.Split`), nor in pytrees, which JAX
# builds of other things than arrays too. An int is a float, as for pyright.
install_import_hook(
    [
        "mnist_jax.data.augment",
        "mnist_jax.models",
        *(f"mnist_jax.training.{name}" for name in ("features", "groups", "optimizer")),
        *(f"mnist_jax.training.{name}" for name in ("phase", "schedules", "step")),
    ],
    "beartype.beartype(conf=beartype.BeartypeConf(is_pep484_tower=True))",
)

import jax
import numpy as np
import pytest
from hypothesis import settings
from ml_collections import ConfigDict
from rich.console import Console

from configs import quickstart
from mnist_jax import console, data, experiment
from tests.support.commands import ROOT, Ended, run
from tests.support.mirrors import list_files, no_network, start_mirror
from tests.support.runs import leave_out_pictures

# The root of the checkout, and fixtures for all.
__all__ = ["ROOT", "list_files", "no_network", "start_mirror"]

LOGGER = logging.getLogger("mnist_jax")

# Keep even small compiled programs, under keys that do not depend on the folder.
KEEP_COMPILED = {
    "jax_persistent_cache_min_compile_time_secs": 0.01,
    "jax_persistent_cache_enable_xla_caches": "none",
}

# Environment variables for programs whose speed does not matter: they compile faster.
LITTLE_OPTIMIZED = {"JAX_DISABLE_MOST_OPTIMIZATIONS": "1"}

# Half of Hypothesis's usual number of examples, in half of the time.
settings.register_profile("short", max_examples=50)
settings.load_profile("short")

# Shapes that only fit by accident are errors in tests.
jax.config.update("jax_numpy_rank_promotion", "raise")


def pytest_sessionstart() -> None:
    """Collect garbage less often: what grows are JAX's caches, which are in use."""
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with whole runs: at the end, they would keep a single worker busy."""
    items.sort(key=lambda item: item.path.parent.name != "tests")


@pytest.fixture(scope="session")
def small() -> data.Dataset:
    """64 images to train, 30 to validate, 50 to test, of the embedded digits."""
    whole = data.load(experiment.parse(quickstart.get_config()).data)

    def take(split: data.Split, count: int) -> data.Split:
        return data.Split(split.images[:count], split.labels[:count])

    return data.Dataset(
        name="digits",
        train=take(whole.train, 64),
        val=take(whole.val, 30),
        test=take(whole.test, 50),
    )


@pytest.fixture
def small_config(small: data.Dataset, monkeypatch: pytest.MonkeyPatch) -> ConfigDict:
    """A config of three epochs on `small`: 4 steps of 15 images, 4 images left over.

    Two calls an epoch, whatever computes the convolutions.
    """
    monkeypatch.setattr(data, "load", lambda config: small)
    return make_small_config()


def make_small_config() -> ConfigDict:
    """Return the config of `small_config`, for fixtures of a wider scope."""
    config = quickstart.get_config()
    config.name = "small"
    config.phases[0].epochs = 3
    config.phases[0].batch_size = 15
    config.eval_batch_size = 16
    config.steps_per_call = 2
    return config


@pytest.fixture
def without_pictures(monkeypatch):
    """Leave out what a run draws and tabulates, for the laws that are not about it."""
    leave_out_pictures(monkeypatch.setattr)


def run_small(
    config: ConfigDict, small: data.Dataset, folder: Path, **of_console: Any
) -> Path:
    """Make a run on `small`, without pictures, that the tests of a module share."""
    with run_without_pictures(small):
        parsed = experiment.parse(config)
        experiment.run(parsed, folder, terminal=console.start(Console(**of_console)))
    return folder


@contextlib.contextmanager
def runs_on(small: data.Dataset | None) -> Iterator[pytest.MonkeyPatch]:
    """Have runs within a block, for fixtures of a wider scope, be on `small`, if any.

    Yields the patch, for more of them.
    """
    with pytest.MonkeyPatch.context() as patch, _same_logging():
        if small:
            patch.setattr(data, "load", lambda config: small)
        yield patch


@contextlib.contextmanager
def run_without_pictures(small: data.Dataset | None = None) -> Iterator[None]:
    """Do the same, without the pictures."""
    with runs_on(small) as patch:
        leave_out_pictures(patch.setattr)
        yield


@contextlib.contextmanager
def _same_logging() -> Iterator[None]:
    before = LOGGER.handlers[:], LOGGER.level, LOGGER.propagate
    try:
        yield
    finally:
        LOGGER.handlers[:], LOGGER.level, LOGGER.propagate = before


@pytest.fixture(autouse=True)
def logging_as_before():
    """A run within a test sends its log lines to a console: not those of the next."""
    with _same_logging():
        yield


@pytest.fixture(scope="session", autouse=True)
def compiled(pytestconfig: pytest.Config) -> Path:
    """Keep compiled programs for other tests and for the next session.

    `pytest --cache-clear` deletes those of earlier sessions.
    """
    assert pytestconfig.cache
    folder = pytestconfig.cache.mkdir("compiled")
    for name, value in KEEP_COMPILED.items():
        jax.config.update(name, value)
    jax.config.update("jax_compilation_cache_dir", str(folder))
    return folder


@contextlib.contextmanager
def _optimizing(much: bool) -> Iterator[None]:
    before = jax.config.values["jax_disable_most_optimizations"]
    jax.config.update("jax_disable_most_optimizations", not much)
    try:
        yield
    finally:
        jax.config.update("jax_disable_most_optimizations", before)


@pytest.fixture(scope="module")
def little_optimized():
    """Compile in half the time, for laws that hold however XLA optimizes."""
    with _optimizing(False):
        yield


@pytest.fixture
def optimized(little_optimized: None):
    """Compile with all optimizations, for a test in a module that does without."""
    with _optimizing(True):
        yield


@pytest.fixture(scope="session")
def three_steps(small: data.Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run of three steps, without pictures, little optimized."""
    with _optimizing(False):
        folder = tmp_path_factory.mktemp("three_steps") / "run"
        return run_small(of_three_steps(), small, folder)


def of_three_steps() -> ConfigDict:
    """Return the config of `three_steps`."""
    config = quickstart.get_config()
    config.phases[0].update(epochs=1, batch_size=20)
    return config


@pytest.fixture(scope="session")
def command_env(compiled: Path) -> dict[str, str]:
    """The environment of commands: like the user's, with compiled programs kept."""
    return os.environ | {
        **{name.upper(): str(value) for name, value in KEEP_COMPILED.items()},
        "JAX_COMPILATION_CACHE_DIR": str(compiled),
        "COLUMNS": "200",
    }


@pytest.fixture
def run_command(command_env: dict[str, str]):
    """Run `python run.py ARGUMENTS` to its end, from the root of the checkout."""

    def run_it(*arguments: str) -> Ended:
        return run("run.py", *arguments, env=command_env)

    return run_it


def assert_trees_equal(first: object, second: object) -> None:
    """Assert that two trees of arrays are the same, bit for bit."""
    assert jax.tree.structure(first) == jax.tree.structure(second)
    jax.tree.map(np.testing.assert_array_equal, first, second)
