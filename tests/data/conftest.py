"""A small MNIST with files of its own, and the official one."""

import dataclasses
import gzip
import hashlib
from pathlib import Path

import numpy as np
import pytest

from mnist_jax.data import Split, idx, mnist
from tests.support.official_files import official, official_dir

__all__ = ["official", "official_dir"]


@dataclasses.dataclass(frozen=True)
class TinyMnist:
    """Stands for the official files: `mnist.FILES` has their names and checksums."""

    folder: Path
    packed: dict[str, bytes]
    train: Split
    test: Split

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
    """A set of 30 + 20 random images; nothing of it lies in `folder` yet."""
    splits = {"train": random_split(30, seed=0), "test": random_split(20, seed=1)}
    files, packed = {}, {}
    for part, split in splits.items():
        contents = idx.encode(split.images[..., 0]), idx.encode(split.labels)
        files[part] = tuple(
            mnist.OfficialFile(
                name=file.name,
                sha256=hashlib.sha256(content).hexdigest(),
                gz_sha256=hashlib.sha256(gzip.compress(content, mtime=0)).hexdigest(),
            )
            for file, content in zip(mnist.FILES[part], contents, strict=True)
        )
        for file, content in zip(files[part], contents, strict=True):
            packed[f"{file.name}.gz"] = gzip.compress(content, mtime=0)
    monkeypatch.setattr(mnist, "FILES", files)
    return TinyMnist(tmp_path / "mnist", packed, splits["train"], splits["test"])
