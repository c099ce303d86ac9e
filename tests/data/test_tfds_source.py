"""MNIST through TensorFlow Datasets: the same images, in TFDS's order."""

import shutil
import subprocess
import sys
import textwrap
from typing import Any

import numpy as np
import pytest

from mnist_jax.data import DataError

PREPARED = "tensorflow_datasets/mnist/3.0.1"


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """The package's cache folder, empty."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "mnist_jax"


@pytest.fixture
def tfds():
    """Our module, imported late: TensorFlow Datasets takes most of a second."""
    from mnist_jax.data import tfds

    return tfds


def in_order(split):
    """Images with their labels, in a canonical order."""
    return sorted(zip(map(bytes, split.images), split.labels, strict=True))


def assert_same(splits, expected):
    for split, other in zip(splits, expected, strict=True):
        assert in_order(split) == in_order(other)


def test_the_first_run_prepares_and_the_next_only_read(
    tfds, tiny, cache, list_files, no_network, capfd
):
    """Nothing is written into the folder of the data files."""
    tiny.write()
    first = tfds.load(tiny.config())
    assert_same(first, (tiny.train, tiny.test))
    assert list_files(tiny.folder) == tiny.packed
    prepared = list_files(cache)
    assert all(name.startswith(f"{PREPARED}/") for name in prepared)
    for name in tiny.packed:
        (tiny.folder / name).unlink()
    for split, again in zip(first, tfds.load(tiny.config()), strict=True):
        np.testing.assert_array_equal(split.images, again.images)
        np.testing.assert_array_equal(split.labels, again.labels)
    assert list_files(cache) == prepared
    assert no_network() == 0
    assert capfd.readouterr() == ("", "")


def test_the_stock_reader_reads_the_prepared_set(tfds, tiny, cache):
    import tensorflow_datasets

    tiny.write()
    splits = tfds.load(tiny.config())
    for part, split in zip(("train", "test"), splits, strict=True):
        source: Any = tensorflow_datasets.data_source(
            "mnist", split=part, data_dir=cache / "tensorflow_datasets"
        )
        assert len(source) == len(split)
        for row, image, label in zip(source, split.images, split.labels, strict=True):
            np.testing.assert_array_equal(row["image"], image)
            assert row["label"] == label


@pytest.mark.parametrize(
    ("damage", "file"),
    [
        *(("missing", name) for name in ("*info.json", "*train.array*")),
        *(("half", name) for name in ("*info.json", "*test.array*")),
        *(("flipped", name) for name in ("*info.json", "*train.array*")),
    ],
)
def test_a_damaged_set_is_refused_or_read_right(tfds, tiny, cache, damage, file):
    tiny.write()
    tfds.load(tiny.config())
    (path,) = (cache / PREPARED).glob(file)
    content = bytearray(path.read_bytes())
    if damage == "missing":
        path.unlink()
    elif damage == "half":
        path.write_bytes(content[: len(content) // 2])
    else:
        content[len(content) // 10] ^= 0x55
        path.write_bytes(content)
    try:
        splits = tfds.load(tiny.config())
    except DataError as error:
        assert str(error).startswith(f"{cache / PREPARED} ")
        assert "Delete it to have" in str(error)
        assert "\n" not in str(error)
    else:
        # Padding and descriptions may be damaged without harm.
        assert damage == "flipped"
        assert_same(splits, (tiny.train, tiny.test))


def test_another_process_is_faster(tfds, tiny, cache, tmp_path, monkeypatch):
    tiny.write()
    tfds.load(tiny.config())
    theirs = tmp_path / "theirs"
    shutil.move(cache / "tensorflow_datasets", theirs)
    generate = tfds._Builder._generate_examples

    def generate_late(self, split):
        if not (cache / PREPARED).exists():
            shutil.copytree(theirs, cache / "tensorflow_datasets", dirs_exist_ok=True)
        return generate(self, split)

    monkeypatch.setattr(tfds._Builder, "_generate_examples", generate_late)
    assert_same(tfds.load(tiny.config()), (tiny.train, tiny.test))
    assert [path.name for path in (cache / PREPARED).parent.iterdir()] == ["3.0.1"]


def test_a_folder_that_cannot_be_written(tfds, tiny, cache, list_files, monkeypatch):
    tiny.write()
    cache.mkdir(parents=True)
    (cache / "tensorflow_datasets").write_text("mine")
    before = list_files(cache)
    with pytest.raises(DataError, match="cannot be prepared: .*XDG_CACHE_HOME=FOLDER"):
        tfds.load(tiny.config())
    assert list_files(cache) == before
    (cache / "tensorflow_datasets").unlink()

    def fail(self, split):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(tfds._Builder, "_generate_examples", fail)
    with pytest.raises(DataError, match="cannot be prepared: .*No space left"):
        tfds.load(tiny.config())
    assert not list_files(cache)


def test_neither_tensorflow_nor_the_network_is_asked_for(tiny, tmp_path):
    # Installed it seems to be, but it must not be imported: that takes seconds, and the
    # real one takes hold of the accelerator.
    (tmp_path / "tensorflow").mkdir()
    (tmp_path / "tensorflow" / "__init__.py").write_text("print('imported')")
    tiny.write()
    script = """
        import socket, sys

        def refuse(*args, **kwargs):
            print("the network was asked for")

        sys.path.insert(0, sys.argv[2])
        socket.socket.connect = socket.getaddrinfo = refuse
        from mnist_jax.config import Data
        from mnist_jax.data import idx, idx_sets, tfds

        idx_sets._read = lambda path, _: idx.read_bytes(path)
        for _ in range(2):
            train, test = tfds.load(Data(dir=sys.argv[1], mirrors=()))
        assert (len(train), len(test)) == (30, 20)
        assert "tensorflow" not in sys.modules
    """
    script = [textwrap.dedent(script), tiny.folder, tmp_path]
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", *script],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
