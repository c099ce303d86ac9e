"""The official MNIST, if MNIST_DIR names a folder that has it."""

import os
from pathlib import Path

import pytest

from mnist_jax.config import Data
from mnist_jax.data import Split, mnist


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
    return mnist.load(Data(dir=str(official_dir), mirrors=()))
