"""The picture of augmented digits: true, readable, within the canvas."""

import re
from typing import Any

import numpy as np
import PIL.Image
import pytest

from mnist_jax import report
from mnist_jax.report import figures
from mnist_jax.report.style import DPI

NAMES: dict[str, Any] = {"run": "x (seed 0)", "data": "mnist"}
OF_X: dict[str, Any] = {"run": "x (seed 0)", "subject": "training images of mnist"}


def make(rows=10, columns=13, height=28, width=28, channels=1):
    """Images, versions of them and labels, all of them noise."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (rows, height, width, channels)).astype(np.uint8)
    versions = rng.integers(0, 256, (rows, columns, height, width, channels))
    return images, versions.astype(np.uint8), rng.integers(0, 10, rows)


def sheets(figure):
    """Both halves of the picture: the originals and their versions."""
    return [np.asarray(axes.images[0].get_array()) for axes in figure.axes]


def cells(sheet, rows, columns):
    """A half's images without the gaps around them."""
    height, width = sheet.shape[0] // rows, sheet.shape[1] // columns
    cut = sheet.reshape(rows, height, columns, width).swapaxes(1, 2)
    assert not np.delete(cut, slice(1, -1), axis=2).any()
    assert not np.delete(cut, slice(1, -1), axis=3).any()
    return cut[:, :, 1:-1, 1:-1]


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(("height", "width"), [(28, 28), (12, 20)])
def test_each_original_stands_beside_its_versions(height, width, channels):
    images, versions, labels = make(4, 7, height, width, channels)
    originals, beside = sheets(figures.augmented(images, versions, labels, **OF_X))
    np.testing.assert_array_equal(cells(originals, 4, 1)[:, 0], images[..., 0])
    np.testing.assert_array_equal(cells(beside, 4, 7), versions[..., 0])


def test_grey_of_both_halves_is_that_of_samples():
    images, versions, labels = make()
    images, versions = images // 2, versions // 3  # No black anywhere.
    figure = figures.augmented(images, versions, labels, **OF_X)
    (reference,) = figures.samples(images, labels, **OF_X).axes[0].images
    for axes in figure.axes:
        (sheet,) = axes.images
        assert sheet.get_clim() == reference.get_clim() == (0, 255)
        assert sheet.get_cmap() == reference.get_cmap()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_versions_in_0_to_1_look_as_in_0_to_255(dtype):
    images, versions, labels = make(3, 5)
    # Rounded to the nearest grey.
    floating = (np.maximum(versions - 0.4, 0) / 255).astype(dtype)
    for one, other in zip(
        sheets(figures.augmented(images, floating, labels, **OF_X)),
        sheets(figures.augmented(images, versions, labels, **OF_X)),
        strict=True,
    ):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(
    ("rows", "columns", "size"),
    [
        *((10, 8, 28), (10, 13, 28), (10, 1, 28), (1, 1, 8)),
        *((20, 5, 28), (5, 28, 28), (3, 60, 28)),
    ],
)
def test_it_is_readable_at_any_number_of_rows_and_columns(
    assert_readable, rows, columns, size
):
    images, versions, labels = make(rows, columns, size, size)
    figure = figures.augmented(images, versions, labels, **OF_X)
    texts = assert_readable(figure, at_least=rows + 2)
    assert texts[: len(labels)] == [str(label) for label in labels]
    total_width, total_height = figure.get_size_inches() * figure.dpi
    left, right = (axes.get_window_extent() for axes in figure.axes)
    assert 0 < left.x0 < left.x1 < right.x0 < right.x1 < total_width
    assert 0 < left.y0 == right.y0 < left.y1 == right.y1 < total_height
    # Pixels of the digits are square, and equally large in both halves.
    scales = [
        side / pixels
        for box, sheet in zip((left, right), sheets(figure), strict=True)
        for side, pixels in zip((box.height, box.width), sheet.shape, strict=True)
    ]
    assert scales == pytest.approx([scales[0]] * 4)
    assert columns > 28 or scales[0] == pytest.approx(round(scales[0]))
    assert 0 < scales[0] < 3.5
    assert columns != 13 or scales[0] == pytest.approx(2)
    if columns in (8, 13):  # As many as fill the page.
        assert total_width - right.x1 == pytest.approx(0.1 * DPI)


def test_labels_stand_beside_their_rows():
    images, versions, labels = make(4, 3)
    axes = figures.augmented(images, versions, labels, **OF_X).axes[0]
    # The middle of a row: 28 pixels and two of gap, counted from a pixel's middle.
    assert list(axes.get_yticks()) == [14.5, 44.5, 74.5, 104.5]
    shown = [label.get_text() for label in axes.get_yticklabels()]
    assert shown == [str(label) for label in labels]


def test_labels_can_be_left_out(assert_readable):
    images, versions, _ = make(4, 3)
    texts = assert_readable(figures.augmented(images, versions, **OF_X), at_least=2)
    assert len(texts) == 2


# -- files


def test_it_is_written_whole_and_the_same_each_time(tmp_path):
    images, versions, labels = make(3, 5)
    for name in ("one", "two"):
        report.write_augmented(tmp_path / name, images, versions, labels, **NAMES)
    one, two = (
        tmp_path / name / "figures" / "augmented.png" for name in ("one", "two")
    )
    assert one.read_bytes() == two.read_bytes()
    assert {path for path in tmp_path.rglob("*") if path.is_file()} == {one, two}
    with PIL.Image.open(one) as image:
        assert image.format == "PNG" and image.width == 8 * DPI


def test_a_full_disk_leaves_the_old_picture(tmp_path, monkeypatch):
    images, versions, labels = make(3, 5)
    path = tmp_path / "figures" / "augmented.png"
    path.parent.mkdir()
    path.write_bytes(b"the old picture")

    def full(*arguments, **keywords):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", full)
    with pytest.raises(OSError, match="No space"):
        report.write_augmented(tmp_path, images, versions, labels, **NAMES)
    assert path.read_bytes() == b"the old picture"
    assert list(path.parent.iterdir()) == [path]


def test_the_page_links_to_it_after_the_samples_if_it_is_there(fake_run):
    images, versions, labels = make(3, 5)
    report.write(fake_run.folder, fake_run.images, {})
    page = fake_run.folder / "report.md"
    assert "augmented" not in re.findall(r"figures/(\w+)\.png", page.read_text())
    report.write_samples(fake_run.folder, fake_run.images, fake_run.labels, **NAMES)
    report.write_augmented(fake_run.folder, images, versions, labels, **NAMES)
    report.write(fake_run.folder, fake_run.images, {})
    linked = re.findall(r"figures/(\w+)\.png", page.read_text())
    assert linked[-2:] == ["samples", "augmented"]
