import gzip
import hashlib
import io
import zipfile
from pathlib import Path

import numpy as np
import pytest

from mnist_jax import data
from mnist_jax.config import Data
from mnist_jax.data import DataError, idx_sets
from mnist_jax.errors import UserError
from tests.data.conftest import random_split
from tests.support.idx_files import encode

TRAIN_IMAGES = "train-images-idx3-ubyte.gz"
TRAIN_LABELS = "train-labels-idx1-ubyte.gz"
TEST_IMAGES = "t10k-images-idx3-ubyte.gz"
TEST_LABELS = "t10k-labels-idx1-ubyte.gz"


def assert_is(split, expected):
    np.testing.assert_array_equal(split.images, expected.images)
    np.testing.assert_array_equal(split.labels, expected.labels)


def assert_loads(tiny, mirrors=()):
    train, test = idx_sets.load(tiny.config(mirrors))
    assert_is(train, tiny.train)
    assert_is(test, tiny.test)


@pytest.mark.parametrize(
    ("configured", "variables", "expected"),
    [
        ("named", {"MNIST_DIR": "env"}, "named"),
        (None, {"MNIST_DIR": "env", "XDG_CACHE_HOME": "xdg"}, "env"),
        (None, {"MNIST_DIR": "", "XDG_CACHE_HOME": "xdg"}, "xdg/mnist_jax"),
        (None, {"HOME": "/h"}, "/h/.cache/mnist_jax"),
        ("~/data", {"HOME": "/h"}, "/h/data"),
        (None, {"HOME": "/h", "MNIST_DIR": "~/data"}, "/h/data"),
    ],
)
def test_where_the_files_are_looked_for(monkeypatch, configured, variables, expected):
    for name in ("MNIST_DIR", "XDG_CACHE_HOME", "HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert idx_sets.data_dir(configured) == Path(expected)


def test_the_published_table_is_that_of_the_official_files(official_dir):
    for name in idx_sets.SETS["mnist"].files:
        content = (official_dir / name).read_bytes()
        published = idx_sets.SHA256[f"mnist/{name}"]
        assert hashlib.sha256(content).hexdigest() == published
        published = idx_sets.SHA256[f"mnist/{name.removesuffix('.gz')}"]
        assert hashlib.sha256(gzip.decompress(content)).hexdigest() == published


@pytest.mark.parametrize("pack", [None, 1, 9], ids=["unpacked", "level 1", "level 9"])
@pytest.mark.parametrize("dotted", [False, True])
def test_other_spellings_and_packings_are_read(tiny, list_files, pack, dotted):
    tiny.folder.mkdir()
    for name, content in tiny.packed.items():
        content, name = gzip.decompress(content), name.removesuffix(".gz")
        if dotted:
            name = name.replace("-idx", ".idx")
        if pack is not None:
            content, name = gzip.compress(content, pack), f"{name}.gz"
        (tiny.folder / name).write_bytes(content)
    before = list_files(tiny.folder)
    assert_loads(tiny)
    assert list_files(tiny.folder) == before


@pytest.mark.parametrize("have", [[], [TRAIN_LABELS, TEST_IMAGES]])
def test_what_is_missing_is_downloaded_from_whoever_has_it(
    tiny, start_mirror, list_files, have
):
    if have:
        tiny.folder.mkdir()
    for name in have:
        (tiny.folder / name).write_bytes(tiny.packed[name])
    some = {TRAIN_IMAGES: tiny.packed[TRAIN_IMAGES]}
    mirrors = [start_mirror(some), start_mirror(tiny.packed)]
    # A mirror may be named without its last slash.
    assert_loads(tiny, [mirror.url.rstrip("/") for mirror in mirrors])
    assert sorted([*mirrors[1].requested, *some, *have]) == sorted(tiny.packed)
    assert list_files(tiny.folder) == tiny.packed


def test_no_network_and_no_files(tiny, no_network, list_files):
    tiny.write(without=TEST_LABELS)
    before = list_files(tiny.folder)
    mirrors = ["http://one.invalid/mnist/", "http://two.invalid/mnist/"]
    with pytest.raises(UserError) as caught:
        idx_sets.load(tiny.config(mirrors))
    message = str(caught.value)
    assert message.startswith(f"{tiny.folder / TEST_LABELS} is missing")
    for expected in (
        *(f"{mirror}{TEST_LABELS}: Network is unreachable" for mirror in mirrors),
        *tiny.packed,  # The names of all four files.
        "--config.data.dir=",
        "MNIST_DIR=",
        "--config.data.source=digits",
        "--config=configs/quickstart.py",
    ):
        assert expected in message
    assert list_files(tiny.folder) == before


DAMAGE = {
    "empty": (TRAIN_IMAGES, lambda content: b""),
    "truncated": (TEST_IMAGES, lambda content: content[:-1]),
    "trailing": (TEST_LABELS, lambda content: content + b"\0"),
    "labels for images": (TRAIN_IMAGES, lambda _: encode(np.zeros(30, np.uint8))),
    "other labels": (TRAIN_LABELS, lambda content: content[:8] + content[:7:-1]),
}


@pytest.mark.parametrize("packed", [False, True], ids=["unpacked", "packed"])
@pytest.mark.parametrize("case", DAMAGE)
def test_a_bad_file_is_named_with_reason_and_way_out_and_kept(
    tiny, no_network, list_files, case, packed
):
    name, damage = DAMAGE[case]
    tiny.write()
    content = damage(gzip.decompress(tiny.packed[name]))
    (tiny.folder / name).write_bytes(gzip.compress(content) if packed else content)
    before = list_files(tiny.folder)
    with pytest.raises(
        DataError, match="Delete it.*--config.data.dir=FOLDER"
    ) as caught:
        idx_sets.load(tiny.config(["http://mirror.invalid/"]))
    start = f"{tiny.folder / name} is not the official file mnist/{name}: it is "
    assert str(caught.value).startswith(f"{start}damaged, changed, or from")
    assert list_files(tiny.folder) == before
    assert no_network() == 0


def test_fashion_mnist_has_its_own_folder_and_checksums(fashion_dir, monkeypatch):
    dataset = data.load(Data(source="fashion_mnist"))
    parts = dataset.train, dataset.val, dataset.test
    assert [len(part) for part in parts] == [54000, 6000, 10000]
    first = [dataset.task.classes[label] for label in dataset.test.labels[:3]]
    assert first == ["Ankle boot", "Pullover", "Trouser"]
    name = "train-images-idx3-ubyte"
    message = f"{name}.gz is not the official file mnist/{name}.gz: it is fashion_mnist"
    monkeypatch.setenv("MNIST_DIR", str(fashion_dir))
    with pytest.raises(DataError, match=f"{message}/{name}. Delete it"):
        data.load(Data())


def publish(name, folder, monkeypatch):
    """Write made-up files of a set as they are published; return the upright images."""
    found, splits, contents = idx_sets.SETS[name], [], []
    for count in (30, 20):
        split = random_split(count, seed=sum(name.encode()) + count)
        splits.append(split)
        images, labels = split.images[..., 0], split.labels
        if name.startswith("emnist"):
            images = images.transpose(0, 2, 1)
        if name == "emnist_letters":
            labels = labels + np.uint8(1)
        if name == "qmnist":
            labels = np.c_[labels, 300 + np.arange(7 * count).reshape(count, 7)]
            labels = labels.astype(np.int32)
        contents += [gzip.compress(encode(x)) for x in (images, labels)]
    if found.members:
        packed = io.BytesIO()
        with zipfile.ZipFile(packed, "w") as archive:
            for member, content in zip(found.members, contents, strict=True):
                archive.writestr(member, content)
        contents = [packed.getvalue()]
    folder.mkdir(parents=True, exist_ok=True)
    for file, content in zip(found.files, contents, strict=True):
        (folder / file).write_bytes(content)
        if not found.members:  # torchvision leaves both
            (folder / file.removesuffix(".gz")).write_bytes(gzip.decompress(content))
        checksum = hashlib.sha256(content).hexdigest()
        monkeypatch.setitem(idx_sets.SHA256, f"{found.folder}/{file}", checksum)
    return splits


@pytest.mark.parametrize("name", idx_sets.SETS)
def test_a_set_is_upright_counts_from_0_and_has_a_folder(name, tmp_path, monkeypatch):
    folder = name.partition("_")[0] if name.startswith("emnist") else name
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    for each in idx_sets.SETS.values():
        monkeypatch.delenv(f"{each.folder.upper()}_DIR", raising=False)
    cache = tmp_path / "mnist_jax"
    splits = publish(name, cache if name == "mnist" else cache / folder, monkeypatch)
    parts = data.read(Data(source=name))
    list(map(assert_is, parts, splits))
    count = {"emnist_letters": 26, "emnist_balanced": 47}.get(name, 10)
    assert len(set(data.task(Data(source=name)).classes)) == count
    monkeypatch.setenv(f"{folder.upper()}_DIR", str(tmp_path / "mine"))
    splits = publish(name, tmp_path / "mine", monkeypatch)
    list(map(assert_is, data.read(Data(source=name)), splits))
    # Damage is noticed, whatever can be verified of the set.
    file = tmp_path / "mine" / idx_sets.SETS[name].files[0]
    file.write_bytes(gzip.compress(encode(np.zeros((30, 28, 28), np.uint8))))
    with pytest.raises(DataError, match=f"is not the official file {folder}/"):
        data.read(Data(source=name))
