"""Labelled images in files: they are read, or refused with the reason."""

import gzip

import numpy as np
import pytest
from PIL import Image

from mnist_jax.data import DataError, Task, labelled
from tests.support.idx_files import encode


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).integers(0, 256, (6, 28, 28), np.uint8)


def write_png(path, image, mode="L"):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).convert(mode).save(path)


def test_subfolders_are_labels(tmp_path, images):
    for number, image in enumerate(images):
        mode, ending = (("L", "PNG"), ("RGB", "bmp"))[number % 2]
        path = tmp_path / str(number % 3) / "more" / f"{number}.{ending}"
        write_png(path, image, mode)
    (tmp_path / "notes.txt").write_text("")
    found = labelled.read_folder(tmp_path)
    order = [0, 3, 1, 4, 2, 5]
    assert found.labels.tolist() == [0, 0, 1, 1, 2, 2]
    np.testing.assert_array_equal(found.images[..., 0], images[order])


def test_classes_have_names(tmp_path, images):
    task = Task(("Ankle boot", "Bag"))
    for number, name in enumerate(("Ankle boot", "Bag", "Bag")):
        write_png(tmp_path / name / f"{number}.png", images[number])
    assert labelled.read_folder(tmp_path, task).labels.tolist() == [0, 1, 1]
    with pytest.raises(DataError, match="'Ankle boot' is not one of 0, 1"):
        labelled.read_folder(tmp_path)
    write_png(tmp_path / "Coat" / "3.png", images[3])
    with pytest.raises(DataError, match="'Coat' is not one of Ankle boot, Bag"):
        labelled.read_folder(tmp_path, task)


def test_a_table_has_labels(tmp_path, images):
    lines = ["file,label"]
    for number, image in enumerate(images):
        write_png(tmp_path / f"{number}.png", image)
        lines.append(f"{number}.png,{9 - number}")
    (tmp_path / "labels.csv").write_text("\n".join(lines))
    found = labelled.read_folder(tmp_path)
    assert found.labels.tolist() == [9, 8, 7, 6, 5, 4]
    np.testing.assert_array_equal(found.images[..., 0], images)


def test_a_pair_of_idx_files(tmp_path, images):
    labels = np.arange(6, dtype=np.uint8)
    (tmp_path / "images").write_bytes(gzip.compress(encode(images)))
    (tmp_path / "labels").write_bytes(encode(labels))
    (tmp_path / "high").write_bytes(encode(labels + 5))
    (tmp_path / "few").write_bytes(encode(labels[:5]))
    whole = encode(images)
    for name, content in {
        "empty": b"",
        "begun": whole[:3],
        "header": whole[:9],
        "cut": whole[:-1],
        "longer": whole + b"0",
        "other": b"GIF89a" * 9,
        "zip": gzip.compress(whole)[:99],
    }.items():
        (tmp_path / name).write_bytes(content)
    (tmp_path / "paper").write_bytes(encode(255 - images // 4))
    (tmp_path / "small").write_bytes(encode(images[:, :20]))
    found = labelled.read_idx(tmp_path / "images", tmp_path / "labels")
    assert found.labels.tolist() == labels.tolist()
    np.testing.assert_array_equal(found.images[..., 0], images)
    for first, second, message in (
        ("images", "high", r"labels have 10 at index 5, not one of 0\.\.9"),
        ("images", "few", r"labels are uint8 \[5\], where integers \[6\]"),
        ("small", "labels", r"images are uint8 \[6, 20, 28\], where .*\[N, 28, 28, 1"),
        ("labels", "images", r"images are uint8 \[6\], where uint8"),
        ("paper", "labels", "paper: 6 of 6 images have a bright edge.*255 less its"),
        *(
            (name, "labels", f"{name} is not an IDX file of unsigned bytes")
            for name in ("empty", "begun", "header", "other")
        ),
        ("cut", "labels", r"cut is cut off .* announces the shape \[6, 28, 28\]"),
        ("longer", "labels", "longer is cut off or has trailing bytes"),
        ("zip", "labels", "Cannot read .*zip: Compressed file ended"),
        ("none", "labels", "Cannot read .*none: No such file"),
    ):
        with pytest.raises(DataError, match=message):
            labelled.read_idx(tmp_path / first, tmp_path / second)


def test_a_folder_that_says_too_little_is_refused(tmp_path, images):
    def refuse(message):
        with pytest.raises(DataError, match=message):
            labelled.read_folder(tmp_path / "photos")

    folder = tmp_path / "photos"
    refuse("photos: there is no such folder")
    folder.mkdir()
    refuse("photos holds no pictures. Put pictures into subfolders named")
    write_png(folder / "a.png", images[0])
    refuse("a.png: no label. Put pictures into subfolders named")
    (folder / "a.png").unlink()
    write_png(folder / "10" / "b.png", images[0])
    refuse("photos/10/b.png: its label '10' is not one of 0, 1, 2,")
    write_png(folder / "a.png", images[0])

    table = folder / "labels.csv"
    for lines, message in (
        ("file,label\na.png,x\n10/b.png,7\n", "a.png: its label 'x' is not one of 0,"),
        ("file,label\na.png\n", "line 2: no file or no label"),
        ("a.png,7\n10/b.png,7\n", "line 2: no file or no label.*must be file,label"),
        ("file,label\na.png,7\na.png,7\n", "line 3: a.png is listed twice"),
        ("file,label\na.png,7\n10/b.png,7\nc.png,7\n", "Cannot read .*c.png: No such"),
        ("file,label\na.png,7\n", "10/b.png: no label"),
    ):
        table.write_text(lines)
        refuse(message)
    table.write_text("file,label\na.png,7\n10/b.png,7\n")
    write_png(folder / "a.png", images[0, :20])
    refuse(r"a.png has the shape \[20, 28\]; .*\[28, 28, 1\].*center_in_28x28")
    (folder / "a.png").write_text("no picture")
    refuse("a.png is not an image of a known format")
