"""The same images in files of any kind are the same data set, or are refused."""

import gzip
import re
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mnist_jax import data
from mnist_jax.config import Data, parse
from mnist_jax.data import own
from mnist_jax.errors import UserError
from tests.data.conftest import random_split
from tests.support.idx_files import encode

# By class, as folders are read.
PARTS = {
    part: data.Split(split.images, np.sort(split.labels))
    for part, split in (("train", random_split(30, 0)), ("test", random_split(20, 1)))
}
TRAIN, TEST = PARTS.values()
PIXELS = [f"pixel{number}" for number in range(785)]


def table(split, *header):
    rows = np.c_[split.labels, split.images.reshape(len(split), -1)]
    return "".join(
        ",".join(map(str, row)) + "\n" for row in [*filter(len, [header])] + [*rows]
    )


GOOD = table(TRAIN, "label", *PIXELS[:784])


def write_idx(folder, pack: Any = bytes, ending=""):
    for prefix, split in (("train", TRAIN), ("t10k", TEST)):
        images, labels = split.images[..., 0], split.labels
        for name, array in (("images-idx3", images), ("labels-idx1", labels)):
            path = folder / f"{prefix}-{name}-ubyte{ending}"
            path.write_bytes(pack(encode(array)))


def write_npz(folder, **others):
    arrays: Any = {f"x_{part}": split.images[..., 0] for part, split in PARTS.items()}
    arrays |= {f"y_{part}": split.labels for part, split in PARTS.items()} | others
    np.savez(folder / "mnist.npz", **{k: x for k, x in arrays.items() if x is not None})


def write_csv(folder, *header):
    for part, split in PARTS.items():
        (folder / f"mnist_{part}.csv").write_text(table(split, *header))


def write_folder(folder):
    for part, split in PARTS.items():
        for number, label in enumerate(split.labels):
            path = folder / part / str(label) / f"{number:02}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(split.images[number, ..., 0]).save(path)


WAYS = {
    "idx": write_idx,
    "idx: compressed": lambda folder: write_idx(folder, gzip.compress, ".gz"),
    "npz": write_npz,
    "csv": lambda folder: write_csv(folder, "label", *PIXELS[:784]),
    "csv: numbered from 1": lambda folder: write_csv(folder, "label", *PIXELS[1:]),
    "csv: no header": write_csv,
    "folder": write_folder,
}


def config(source, folder, **fields):
    fields = {"source": source, "dir": str(folder), "val_size": 10} | fields
    return parse(fields, Data, flag="--config.data")


@pytest.mark.parametrize("way", WAYS)
def test_the_same_images_in_any_files_are_the_same_data_set(tmp_path, way):
    WAYS[way](tmp_path)
    chosen = config(way.partition(":")[0], tmp_path)
    for found, expected in zip(data.read(chosen), PARTS.values(), strict=True):
        assert found.images.dtype == found.labels.dtype == np.uint8
        np.testing.assert_array_equal(found.images, expected.images)
        np.testing.assert_array_equal(found.labels, expected.labels)
    assert data.load(chosen).task == data.DIGITS
    if way == "folder":
        (tmp_path / "train" / "7").rename(tmp_path / "train" / "Ankle boot")
        (tmp_path / "train" / ".cache").mkdir()
        assert data.task(chosen).classes == (*"01234568", "9", "Ankle boot")
        (tmp_path / "train" / "labels.csv").write_text("file,label")
        assert data.task(chosen) == data.DIGITS


def test_without_test_labels_the_validation_images_are_the_test(tmp_path):
    """As with Kaggle's files, whose test.csv has no labels."""
    (tmp_path / "train.csv").write_text(GOOD)
    lines = GOOD.splitlines()
    text = "\n".join(line.partition(",")[2] for line in lines)
    (tmp_path / "test.csv").write_text(text)
    images, labels = own.read_csv(tmp_path / "test.csv")
    assert labels is None
    np.testing.assert_array_equal(images, TRAIN.images[..., 0])
    with pytest.raises(UserError, match="no test images with labels.*test_on=val"):
        data.load(config("csv", tmp_path))
    found = data.load(config("csv", tmp_path, test_on="val"))
    assert found.test is found.val and len(found.train) == 20


BAD_TABLES = {
    "it has no rows": "label,pixel0\n",
    "783 columns of pixels, not 784": GOOD.replace("pixel3,", "", 1),
    "785 columns of pixels": table(TRAIN, "label", *PIXELS),
    "not in the order label,pixel0": GOOD.replace("pixel7,pixel8", "pixel8,pixel7"),
    "785 columns of": table(TRAIN, *PIXELS[:784], "label"),
    "could not convert string '0.5'": GOOD + "1,0.5" + ",0" * 783,
    "number of columns changed": GOOD + "1,2,3\n",
    r"pixels in 0\.\.256": GOOD + "1,256" + ",0" * 783,
    "field larger than field limit": "0" * 200_000,
    "labels have 10 at index 30, .* Name all": GOOD + "10" + ",0" * 784,
}


@pytest.mark.parametrize("message", BAD_TABLES)
def test_bad_tables(tmp_path, message):
    (tmp_path / "train.csv").write_text(BAD_TABLES[message])
    with pytest.raises(UserError, match=message) as caught:
        data.read(config("csv", tmp_path))
    assert str(tmp_path) in str(caught.value)


def test_bad_files_are_refused_with_the_reason(tmp_path):
    def refuse(source, message, **fields):
        with pytest.raises(UserError, match=message):
            data.read(config(source, tmp_path, **fields))

    for source in own.READERS:
        refuse(source, f"data.dir={tmp_path} has no ")
        refuse(source, "needs --config.data.dir", dir=None)
    refuse("idx", "there is no such folder", dir="/nowhere")
    refuse("fodler", 'unknown .*Did you mean "folder"')
    refuse("digits", "Leave out --config.data.classes", classes=("a", "b"))
    refuse("npz", "classes a, a, not 2 to 256", classes=("a", "a"))
    for others, message in (
        ({"y_train": None}, "Cannot read .*mnist.npz: .*y_train"),
        ({"x_train": TRAIN.images / 255}, "images are float64"),
        ({"y_train": TRAIN.labels.astype(object)}, "Cannot read .*allow_pickle=False"),
        (
            {"y_train": TRAIN.labels.astype(int) - 1},
            r"-1 at index 0, not one of 0\.\.9",
        ),
        ({"x_train": 255 - TRAIN.images // 4}, "30 of 30 images have a bright edge"),
    ):
        write_npz(tmp_path, **others)
        refuse("npz", message)
    write_npz(tmp_path)
    content = (tmp_path / "mnist.npz").read_bytes()
    unknown = re.sub(rb"(PK\x01\x02.{6})..", rb"\1cc", content, flags=re.DOTALL)
    (tmp_path / "mnist.npz").write_bytes(unknown)
    refuse("npz", "Cannot read .*mnist.npz: .*compression method")
    (tmp_path / "mnist.npz").write_bytes(b"PK no archive")
    refuse("npz", "Cannot read .*mnist.npz")
    for name in ("cat", "dog"):
        (tmp_path / "train" / name).mkdir(parents=True)
    refuse("folder", "train holds no pictures")
    Image.new("L", (28, 28)).save(tmp_path / "train" / "dog" / "1.png")
    refuse("folder", "train holds no pictures of the class cat")
