import dataclasses
import logging
import shutil
import subprocess
import sys
import textwrap
from typing import Any

import numpy as np
import pytest

from mnist_jax.data import DataError, idx, mnist

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


def assert_equal(splits, expected):
    for split, other in zip(splits, expected, strict=True):
        np.testing.assert_array_equal(split.images, other.images)
        np.testing.assert_array_equal(split.labels, other.labels)


def prepare(tfds, tiny, monkeypatch, *, shuffled):
    """Write the set as another program would."""
    info = tfds._Builder._info

    def other_info(self):
        result = info(self)
        result._info_proto.disable_shuffling = not shuffled
        return result

    with monkeypatch.context() as patch:
        patch.setattr(tfds._Builder, "_info", other_info)
        splits = {"train": tiny.train, "test": tiny.test}
        tfds._prepare(tiny.folder / PREPARED, splits)


def test_the_first_run_prepares_and_the_next_only_read(
    tfds, tiny, cache, list_files, no_network
):
    """Nothing is written into the folder of the data files."""
    tiny.write()
    assert_equal(tfds.load(tiny.folder, ()), (tiny.train, tiny.test))
    assert list_files(tiny.folder) == tiny.packed
    prepared = list_files(cache)
    assert all(name.startswith(f"{PREPARED}/") for name in prepared)
    for name in tiny.packed:
        (tiny.folder / name).unlink()
    assert_equal(tfds.load(tiny.folder, ()), (tiny.train, tiny.test))
    assert list_files(cache) == prepared
    assert no_network() == 0


def test_files_that_are_missing_are_downloaded(tfds, tiny, start_mirror):
    mirror = start_mirror(tiny.packed)
    splits = tfds.load(tiny.folder, [mirror.url])
    assert_equal(splits, (tiny.train, tiny.test))
    assert sorted(mirror.requested) == sorted(tiny.packed)


def test_the_stock_reader_reads_the_prepared_set(tfds, tiny, cache):
    import tensorflow_datasets

    tiny.write()
    tfds.load(tiny.folder, ())
    for part, split in (("train", tiny.train), ("test", tiny.test)):
        source: Any = tensorflow_datasets.data_source(
            "mnist", split=part, data_dir=cache / "tensorflow_datasets"
        )
        assert len(source) == len(split)
        for row, image, label in zip(source, split.images, split.labels, strict=True):
            np.testing.assert_array_equal(row["image"], image)
            assert row["label"] == label


def test_a_shuffled_set_is_brought_back_to_order(tfds, tiny, monkeypatch, no_network):
    import tensorflow_datasets

    # What the stock builder writes where TensorFlow is installed.
    prepare(tfds, tiny, monkeypatch, shuffled=True)
    stored: Any = tensorflow_datasets.data_source(
        "mnist", split="train", data_dir=tiny.folder / "tensorflow_datasets"
    )
    stored_images = np.stack([row["image"] for row in stored])
    assert not np.array_equal(stored_images, tiny.train.images)
    assert_equal(tfds.load(tiny.folder, ()), (tiny.train, tiny.test))
    assert no_network() == 0


def test_another_set_of_that_name_is_refused(tfds, tiny, monkeypatch, list_files):
    other = dataclasses.replace(tiny, test=tiny.train)
    prepare(tfds, other, monkeypatch, shuffled=False)
    before = list_files(tiny.folder)
    with pytest.raises(DataError) as caught:
        tfds.load(tiny.folder, ())
    message = str(caught.value)
    assert message.startswith(
        f"{tiny.folder / PREPARED} does not have MNIST's test images and labels"
    )
    assert "Move it away or delete it and run again" in message
    assert "--config.data.source=mnist" in message
    assert list_files(tiny.folder) == before


def test_a_set_in_tfrecord_files_is_refused(tfds, tiny, monkeypatch):
    prepare(tfds, tiny, monkeypatch, shuffled=False)
    info = tiny.folder / PREPARED / "dataset_info.json"
    info.write_text(info.read_text().replace('"array_record"', '"tfrecord"'))
    with pytest.raises(DataError, match="is not in ArrayRecord files.*Move it away"):
        tfds.load(tiny.folder, ())


@pytest.mark.parametrize("damage", ["missing", "empty", "half", "flipped"])
@pytest.mark.parametrize("file", ["*info.json", "*train.array*", "*test.array*"])
def test_a_damaged_set_is_refused_or_read_right(tfds, tiny, cache, damage, file):
    tiny.write()
    tfds.load(tiny.folder, ())
    (path,) = (cache / PREPARED).glob(file)
    content = bytearray(path.read_bytes())
    if damage == "missing":
        path.unlink()
    elif damage == "empty":
        path.write_bytes(b"")
    elif damage == "half":
        path.write_bytes(content[: len(content) // 2])
    else:
        content[len(content) // 10] ^= 0x55
        path.write_bytes(content)
    try:
        splits = tfds.load(tiny.folder, ())
    except DataError as error:
        assert str(error).startswith(f"{cache / PREPARED} ")
        assert "Move it away or delete it" in str(error)
        assert "\n" not in str(error)
    else:
        # Padding and descriptions may be damaged without harm.
        assert damage == "flipped"
        assert_equal(splits, (tiny.train, tiny.test))


def test_an_interrupted_preparation_leaves_nothing(
    tfds, tiny, cache, list_files, monkeypatch
):
    tiny.write()

    def interrupt(image):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(tfds, "_encode_png", interrupt)
        with pytest.raises(KeyboardInterrupt):
            tfds.load(tiny.folder, ())
    assert list_files(tiny.folder) == tiny.packed
    assert not list_files(cache)
    assert_equal(tfds.load(tiny.folder, ()), (tiny.train, tiny.test))


def test_a_killed_preparation_does_no_harm(tfds, tiny, cache):
    tiny.write()
    script = """
        import os, sys
        from pathlib import Path
        import numpy as np
        from mnist_jax.data import Split, tfds
        root = Path(sys.argv[1])
        encode = tfds._encode_png
        def encode_or_die(image):
            if image.any():
                os.kill(os.getpid(), 9)
            return encode(image)
        tfds._encode_png = encode_or_die
        images = np.zeros((9, 28, 28, 1), np.uint8)
        images[5:] = 1
        split = Split(images, np.zeros(9, np.uint8))
        tfds._prepare(root / "mnist" / "3.0.1", {"train": split, "test": split})
    """
    root = cache / "tensorflow_datasets"
    killed = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script), root], timeout=60
    )
    assert killed.returncode == -9
    assert list((root / "mnist").glob("incomplete*"))  # It had begun to write.
    assert_equal(tfds.load(tiny.folder, ()), (tiny.train, tiny.test))


def test_another_process_is_faster(tfds, tiny, cache, tmp_path, monkeypatch):
    tiny.write()
    tfds.load(tiny.folder, ())
    theirs = tmp_path / "theirs"
    shutil.move(cache / "tensorflow_datasets", theirs)
    encode = tfds._encode_png

    def encode_late(image):
        if not (cache / PREPARED).exists():
            shutil.copytree(theirs, cache / "tensorflow_datasets", dirs_exist_ok=True)
        return encode(image)

    monkeypatch.setattr(tfds, "_encode_png", encode_late)
    assert_equal(tfds.load(tiny.folder, ()), (tiny.train, tiny.test))
    assert [path.name for path in (cache / PREPARED).parent.iterdir()] == ["3.0.1"]


def test_a_folder_that_cannot_be_written(tfds, tiny, cache, list_files):
    tiny.write()
    cache.mkdir(parents=True)
    (cache / "tensorflow_datasets").write_text("mine")
    before = list_files(cache)
    with pytest.raises(DataError) as caught:
        tfds.load(tiny.folder, ())
    message = str(caught.value)
    assert message.startswith(f"{cache / PREPARED} cannot be prepared: ")
    assert "XDG_CACHE_HOME" in message
    assert "--config.data.source=mnist" in message
    assert list_files(cache) == before


def test_a_failure_while_writing(tfds, tiny, cache, list_files, monkeypatch):
    tiny.write()

    def fail(image):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(tfds, "_encode_png", fail)
    with pytest.raises(DataError, match="cannot be prepared: .*No space left"):
        tfds.load(tiny.folder, ())
    assert list_files(tiny.folder) == tiny.packed
    assert not list_files(cache)


def test_the_console_stays_clean_and_warnings_still_come(tfds, tiny, capfd, caplog):
    logger = logging.getLogger("absl")
    caplog.set_level(logging.INFO)
    caplog.set_level(logging.INFO, logger.name)
    tiny.write()
    tfds.load(tiny.folder, ())
    assert capfd.readouterr() == ("", "")
    assert [record.name for record in caplog.records] == [tfds.__name__]
    with tfds._quiet_tfds():
        logger.warning("a real problem")
    assert "a real problem" in caplog.text
    assert logger.level == logging.INFO


def test_neither_tensorflow_nor_the_network_is_asked_for(tiny, tmp_path):
    # Installed it seems to be, but it must not be imported: that takes seconds, and the
    # real one takes hold of the accelerator.
    (tmp_path / "tensorflow").mkdir()
    (tmp_path / "tensorflow" / "__init__.py").write_text("print('imported')")
    tiny.write()
    script = """
        import dataclasses, gzip, hashlib, socket, sys
        from pathlib import Path

        def refuse(*args, **kwargs):
            print("the network was asked for")

        sys.path.insert(0, sys.argv[2])
        socket.socket.connect = socket.getaddrinfo = refuse
        from mnist_jax.data import mnist, tfds
        folder = Path(sys.argv[1])
        def unpack(name):
            return gzip.decompress((folder / f"{name}.gz").read_bytes())
        mnist.FILES = {
            part: tuple(
                dataclasses.replace(
                    file, sha256=hashlib.sha256(unpack(file.name)).hexdigest()
                )
                for file in files
            )
            for part, files in mnist.FILES.items()
        }
        for _ in range(2):
            train, test = tfds.load(folder, ())
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


@pytest.mark.slow
@pytest.mark.exhaustive
def test_the_official_set_is_the_same_through_tfds(
    tfds, official_dir, official, tmp_path
):
    for files in mnist.FILES.values():
        for file in files:
            shutil.copy(official_dir / f"{file.name}.gz", tmp_path)
    splits = tfds.load(tmp_path, ())
    assert_equal(splits, official)
    assert idx.checksum(splits[0].labels) == mnist.FILES["train"][1].sha256
