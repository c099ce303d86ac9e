"""A small set of random images in place of MNIST, and the official one."""

import dataclasses
import gzip
import hashlib
from pathlib import Path

import numpy as np
import pytest

from mnist_jax.config import Data
from mnist_jax.data import Split, idx_sets
from tests.support.idx_files import encode
from tests.support.official_files import fashion_dir, official, official_dir

__all__ = ["fashion_dir", "official", "official_dir"]


@dataclasses.dataclass(frozen=True)
class TinyMnist:
    """Stands for the official files: `SHA256` has their checksums."""

    folder: Path
    packed: dict[str, bytes]
    train: Split
    test: Split

    def config(self, mirrors=()) -> Data:
        return Data(dir=str(self.folder), mirrors=tuple(mirrors))

    def write(self, *, without: str = "") -> None:
        self.folder.mkdir(exist_ok=True)
        for name, content in self.packed.items():
            if name != without:
                (self.folder / name).write_bytes(content)


def random_split(count: int, seed: int) -> Split:
    rng = np.random.RandomState(seed)
    images = rng.randint(0, 256, (count, 28, 28, 1), dtype=np.uint8)
    return Split(images, (np.arange(count) % 10).astype(np.uint8))


@pytest.fixture
def tiny(tmp_path, monkeypatch) -> TinyMnist:
    """A set of 30 + 20 random images; `folder` is still empty."""
    train, test = random_split(30, seed=0), random_split(20, seed=1)
    arrays = train.images[..., 0], train.labels, test.images[..., 0], test.labels
    packed = {}
    for name, array in zip(idx_sets.SETS["mnist"].files, arrays, strict=True):
        content = encode(array)
        packed[name] = gzip.compress(content, mtime=0)
        for key, each in ((name, packed[name]), (name.removesuffix(".gz"), content)):
            checksum = hashlib.sha256(each).hexdigest()
            monkeypatch.setitem(idx_sets.SHA256, f"mnist/{key}", checksum)
    return TinyMnist(tmp_path / "mnist", packed, train, test)
