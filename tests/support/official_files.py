"""The official files, if variables such as MNIST_DIR name folders that have them."""

import os
from pathlib import Path

import pytest

from mnist_jax.config import Data
from mnist_jax.data import Split, idx_sets


@pytest.fixture(scope="session")
def official_dir() -> Path:
    """The folder of the four official files."""
    folder = os.environ.get("MNIST_DIR")
    if not folder:
        pytest.skip("MNIST_DIR names no folder with the official MNIST files")
    return Path(folder)


@pytest.fixture(scope="session")
def official(official_dir) -> tuple[Split, Split]:
    """The official training and test images."""
    return idx_sets.load(Data(dir=str(official_dir), mirrors=()))


@pytest.fixture(scope="session")
def fashion_dir() -> Path:
    """The folder of the official files of Fashion-MNIST."""
    folder = os.environ.get("FASHION_MNIST_DIR")
    if not folder:
        pytest.skip("FASHION_MNIST_DIR names no folder with Fashion-MNIST's files")
    return Path(folder)
