import dataclasses
import hashlib
import subprocess
import sys

import numpy as np
import pytest

from mnist_jax import data
from mnist_jax.config import Data, parse
from mnist_jax.data.dataset import DIGITS, Task, hold_out, subset
from mnist_jax.errors import UserError


def config(**changes):
    return parse(changes, Data, flag="--config.data")


def numbered(count):
    """Images that carry their own index, in their first two pixels."""
    images = np.zeros((count, 28, 28, 1), np.uint8)
    index = np.arange(count)
    images[:, 0, 0, 0], images[:, 0, 1, 0] = index // 256, index % 256
    return data.Split(images, (index % 10).astype(np.uint8))


def indices(split):
    high, low = split.images[:, 0, :2, 0].astype(int).T
    return 256 * high + low


@pytest.fixture(scope="module")
def thousand():
    return numbered(1000)


@pytest.mark.parametrize("val_size", [1, 100, 999])
@pytest.mark.parametrize("seed", [0, 1, 2**32 - 1])
def test_the_split_is_disjoint_and_complete_and_keeps_pairs(thousand, val_size, seed):
    train, val = hold_out(thousand, val_size=val_size, split_seed=seed)
    assert (len(train), len(val)) == (1000 - val_size, val_size)
    assert sorted([*indices(train), *indices(val)]) == list(range(1000))
    for split in (train, val):
        assert np.all(np.diff(indices(split)) > 0)
        np.testing.assert_array_equal(split.labels, indices(split) % 10)


def test_the_split_of_mnist_is_frozen():
    # Which 6,000 of 60,000 are held out by default. Results are compared across
    # machines and years: this must never change.
    held_out = indices(hold_out(numbered(60000), val_size=6000, split_seed=0)[1])
    digest = hashlib.sha256(held_out.astype("<u2").tobytes()).hexdigest()
    assert digest == "80b15ab18495050b05dc30c4af6080a7d0e5191ba34982594982e1c809ed1828"


@pytest.mark.parametrize("val_size", [-1, 0, 1000, 6000])
def test_a_validation_size_out_of_range(thousand, val_size):
    with pytest.raises(data.DataError) as caught:
        hold_out(thousand, val_size=val_size, split_seed=0)
    message = str(caught.value)
    assert message.startswith(f"--config.data.val_size={val_size}: must be 1..999")


SHARES = np.array([0.7, 0.2, 0.09, 0.01])
UNEVEN = Task(("a", "b", "c", "d"))


@pytest.fixture(scope="module")
def uneven():
    """1,000 numbered images, of which a class has 700, 200, 90 or 10."""
    labels = np.random.default_rng(0).permutation(
        np.repeat(range(4), [700, 200, 90, 10])
    )
    return data.Split(numbered(1000).images, labels.astype(np.uint8))


@pytest.mark.parametrize("seed", [0, 2**32 - 1])
def test_subsets_have_each_class_by_its_share_and_are_nested(uneven, seed):
    smaller: set[int] = set()
    for size in (4, 5, 50, 333, 999, 1000):
        drawn = subset(uneven, train_size=size, subset_seed=seed, task=UNEVEN)
        kept = indices(drawn)
        assert len(kept) == size and np.all(np.diff(kept) > 0)
        np.testing.assert_array_equal(drawn.labels, uneven.labels[kept])
        counts = np.bincount(drawn.labels, minlength=4)
        assert counts.min() >= 1 and np.all(np.abs(counts - size * SHARES) <= 2)
        assert smaller <= {*kept}
        smaller = {*kept}


def test_subsets_of_other_seeds_are_independent(uneven):
    first, other = (
        {*indices(subset(uneven, train_size=500, subset_seed=seed, task=UNEVEN))}
        for seed in (0, 1)
    )
    assert 200 < len(first & other) < 300


def test_the_subset_of_mnist_is_frozen():
    """Results are compared across machines and years: this must never change."""
    train, _ = hold_out(numbered(60000), val_size=6000, split_seed=0)
    kept = indices(subset(train, train_size=1000, subset_seed=0, task=DIGITS))
    digest = hashlib.sha256(kept.astype("<u2").tobytes()).hexdigest()
    assert digest == "69fc0509704ee436d31799f4f309f16300bbd2dc677c864d434ebbc230fa3ddc"


def test_a_subset_leaves_the_images_for_validation_as_they_are():
    whole = data.load(config(source="digits", val_size=137))
    part = data.load(config(source="digits", val_size=137, train_size=100))
    assert len(part.train) == 100
    np.testing.assert_array_equal(part.val.images, whole.val.images)
    np.testing.assert_array_equal(part.test.images, whole.test.images)


@pytest.mark.parametrize("train_size", [3, 1001])
def test_a_subset_of_a_size_out_of_range(uneven, train_size):
    with pytest.raises(data.DataError, match=r"train_size=\d+: must be 4\.\.1000"):
        subset(uneven, train_size=train_size, subset_seed=0, task=UNEVEN)


def test_a_subset_needs_an_image_of_every_class(uneven):
    task = Task((*UNEVEN.classes, "Ankle boot"))
    with pytest.raises(data.DataError, match="shows Ankle boot"):
        subset(uneven, train_size=10, subset_seed=0, task=task)


def test_an_unknown_source_is_answered_with_the_known_ones():
    with pytest.raises(UserError) as caught:
        data.task(config(source="cifar10"))
    message = str(caught.value)
    assert message.startswith("--config.data.source=cifar10: unknown")
    for name in data.SOURCES:
        assert name in message


def test_the_embedded_set_needs_nothing_and_the_default_size_is_too_large_for_it(
    no_network, monkeypatch
):
    monkeypatch.setenv("MNIST_DIR", "/nowhere")
    dataset = data.load(config(source="digits", val_size=137))
    assert dataset.name == "digits"
    assert [len(s) for s in (dataset.train, dataset.val, dataset.test)] == [
        1301,
        137,
        359,
    ]
    with pytest.raises(data.DataError, match="val_size=6000: must be 1..1437"):
        data.load(config(source="digits"))
    assert no_network() == 0


@pytest.mark.parametrize("source", ["mnist", "tfds"])
def test_folder_and_mirrors_come_from_the_config(
    source, tiny, start_mirror, tmp_path, monkeypatch
):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    mirror = start_mirror(tiny.packed)
    folder = str(tiny.folder)
    chosen = config(source=source, dir=folder, mirrors=(mirror.url,), val_size=10)
    dataset = data.load(chosen)
    assert dataset.name == source
    assert sorted(mirror.requested) == sorted(tiny.packed)
    assert sorted(map(bytes, dataset.test.images)) == sorted(
        map(bytes, tiny.test.images)
    )
    train, _ = data.read(chosen)
    assert (len(dataset.train), len(dataset.val)) == (20, 10)
    train, val = hold_out(train, val_size=10, split_seed=0)
    np.testing.assert_array_equal(dataset.train.images, train.images)
    np.testing.assert_array_equal(dataset.val.labels, val.labels)


def test_the_official_set(official_dir, official):
    dataset = data.load(config(dir=str(official_dir)))
    train, test = official
    assert (len(dataset.train), len(dataset.val), len(dataset.test)) == (
        54000,
        6000,
        10000,
    )
    # The first digits of each file, known from countless tutorials.
    assert list(train.labels[:10]) == [5, 0, 4, 1, 9, 2, 1, 3, 1, 4]
    assert list(test.labels[:10]) == [7, 2, 1, 0, 4, 1, 4, 9, 5, 9]
    assert train.images.mean() / 255 == pytest.approx(0.1307, abs=5e-5)


def test_importing_the_package_is_cheap():
    script = (
        "import sys, mnist_jax.data; "
        "print(*{name.partition('.')[0] for name in sys.modules})"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    heavy = {"jax", "PIL", "requests", "rich", "sklearn", "tensorflow_datasets"}
    assert not heavy & set(done.stdout.split())


def test_recipes_can_be_chosen_without_the_test_images():
    usual = data.load(config(source="digits", val_size=138))
    choosing = data.load(config(source="digits", val_size=138, test_on="val"))
    assert choosing.test is choosing.val
    for first, second in ((usual.train, choosing.train), (usual.val, choosing.val)):
        np.testing.assert_array_equal(first.images, second.images)
    assert usual.name == choosing.name == "digits"


MODULE = """
import numpy as np
from mnist_jax import data

IMAGES, LABELS = np.zeros((4, 28, 28), np.uint8), np.array([0, 1, 2, 1])
COLOUR = np.zeros((4, 8, 6, 3), np.uint8)

@data.source("a b", "é", "<c>")
def sound(config):
    return (IMAGES, LABELS), data.Split(IMAGES[..., None], LABELS.astype(np.uint8))

@data.source("a", "b", "c", image_shape=(8, 6, 3))
def colour(config):
    return (COLOUR, LABELS), (COLOUR, LABELS)

def unmarked(config):
    raise AssertionError

@data.source("a", "b")
def beyond(config):
    return (IMAGES, LABELS % 2), (IMAGES, LABELS)

@data.source("a", "b", "c")
def floats(config):
    return (IMAGES / 255, LABELS), (IMAGES, LABELS)

@data.source("a", "b", "c")
def smaller(config):
    return (IMAGES, LABELS), (IMAGES[:, :20], LABELS)

@data.source("a", "b", "c")
def fewer(config):
    return (IMAGES, LABELS[:3]), (IMAGES, LABELS)

@data.source("a", "b", "c")
def nothing(config):
    return (IMAGES, LABELS), (IMAGES[:0], LABELS[:0])

forgotten = data.source("a", "b")(lambda config: None)
one = data.source("a", "b")(lambda config: [(IMAGES, LABELS)])
alone = data.source("a", "b")(lambda config: (IMAGES, LABELS))
empty = data.source("a", "")(unmarked)
two_lines = data.source("a", "b\\nc")(unmarked)
twice = data.source("a", "b", "a")(unmarked)
single = data.source("a")(unmarked)
"""


@pytest.fixture
def my_data(tmp_path, monkeypatch):
    """A module in the current folder, which is not on Python's path."""
    (tmp_path / "my_data.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [p for p in sys.path if p != ""])
    monkeypatch.delitem(sys.modules, "my_data", raising=False)  # of another test
    yield
    sys.modules.pop("my_data", None)


def test_any_classes_and_any_shape(my_data):
    chosen = config(source="my_data:sound", val_size=1)
    assert data.load(chosen).task.classes == ("a b", "é", "<c>")
    assert data.load(chosen).test.labels.tolist() == [0, 1, 2, 1]
    colour = data.load(config(source="my_data:colour", val_size=1))
    assert colour.train.images.shape == (3, 8, 6, 3)
    assert colour.task.image_shape == (8, 6, 3)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("unmarked", "is not a data set: mark the function .*@mnist_jax.data.source"),
        ("missing", "my_data has no 'missing'"),
        ("empty", "a class is called ''. Its name must not be empty"),
        ("two_lines", r"a class is called 'b\\nc'"),
        ("twice", "has the classes a, b, a, not 2 to 256 different ones"),
        ("single", "has the classes a, not 2 to 256 different ones"),
        ("beyond", r"its test labels have 2 at index 2, not .* 0\.\.1: .* 2 class"),
        ("floats", r"its training images are float64 \[4, 28, 28, 1\], where uint8"),
        ("smaller", r"its test images are uint8 \[4, 20, 28\], where uint8 \[N, 28"),
        ("fewer", r"its training labels are int64 \[3\], where integers \[4\]"),
        ("nothing", "its test set has no images"),
        ("forgotten", r"does not return \(images, labels\) to train on and"),
        ("one", r"does not return \(images, labels\) to train on and"),
        ("alone", r"does not return \(images, labels\) to train on and"),
    ],
)
def test_a_data_set_that_is_none_is_named_with_the_reason(my_data, name, message):
    with pytest.raises(UserError, match=message) as caught:
        data.load(config(source=f"my_data:{name}", val_size=1))
    assert str(caught.value).startswith(f"--config.data.source=my_data:{name}")
    assert "\n" not in str(caught.value)


def test_images_are_identified_by_shape_and_values(thousand):
    images = thousand.images
    digest = data.images_sha256(images)
    assert digest == data.images_sha256(images.copy()[::1])
    assert digest == data.images_sha256(np.asfortranarray(images))
    assert digest != data.images_sha256(images[::-1])
    assert digest != data.images_sha256(images.reshape(1000, 784))


@pytest.mark.parametrize("megabytes", [0.0, 0.1, 4000.0])
def test_a_limit_of_memory_changes_no_image(megabytes):
    for train_size in (100, 1000, 0):  # of 1,300 images of 784 bytes
        usual = Data("digits", val_size=138, train_size=train_size)
        limited = dataclasses.replace(usual, images_megabytes=megabytes)
        found, usual = data.load(limited), data.load(usual)
        np.testing.assert_array_equal(found.train.images[:], usual.train.images)
        np.testing.assert_array_equal(found.train.labels, usual.train.labels)
        count = train_size or 1300
        is_large = isinstance(found.train.images, data.Rows)
        assert is_large == (784 * count > 1e6 * megabytes)
