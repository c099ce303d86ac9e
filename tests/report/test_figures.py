"""Pictures: true, readable, and within the canvas, for any classes and images."""

import numpy as np
import PIL.Image
import pytest

from mnist_jax.report import curves, figures, page
from mnist_jax.report.style import About
from tests.report.conftest import make_epochs

LONG = "a-config-with-a-name-that-is-much-too-long-for-the-title-of-a-figure, seed 0"
NAMED = About(LONG, "validation images of digits", ())
OF_X = About("x, seed 0", "test images of mnist", ())
CLASSES = {
    1: ("only",),
    3: ("Ankle boot", "<script> $x$ | `y`", "あ T-shirt/top with a very long name"),
    20: tuple(f"Letter {letter}" for letter in "abcdefghijklmnopqrst"),
    62: tuple(f"Class number {n}" for n in range(62)),
}
all_classes = pytest.mark.parametrize("classes", CLASSES.values(), ids=CLASSES)


def noise(*shape):
    return np.random.default_rng(0).integers(1, 256, shape).astype(np.uint8)


# -- images


@all_classes
def test_samples_are_the_first_of_each_class(assert_readable, classes):
    shape = (28, 28, 1) if len(classes) in (1, 20) else (8, 20, 3)
    labels = np.random.default_rng(0).integers(0, len(classes), 1000)
    images = noise(1000, *shape)
    figure = figures.samples(images, labels, NAMED._replace(classes=classes))
    rows = min(len(classes), figures.MOST_ROWS)
    assert_readable(figure, at_least=rows + 1)
    sheet = np.asarray(figure.axes[0].images[0].get_array())
    cells = sheet.reshape(rows, shape[0] + 2, -1, shape[1] + 2, shape[2])
    cells = cells.swapaxes(1, 2)[:, :, 1:-1, 1:-1]
    for label, row in enumerate(cells):
        first = images[labels == label][: len(row)]
        np.testing.assert_array_equal(row[: len(first)], first)
        assert not row[len(first) :].any()


@pytest.mark.parametrize(
    ("rows", "columns", "channels"), [(1, 1, 3), (10, 8, 1), (62, 8, 3)]
)
def test_augmented_images_are_beside_their_originals(
    assert_readable, rows, columns, channels
):
    images = noise(rows, 12, 20, channels)
    versions = noise(rows, columns, 12, 20, channels)
    figure = figures.augmented(
        *(images, versions / 255, np.arange(rows)), NAMED._replace(classes=CLASSES[62])
    )
    shown = min(rows, figures.MOST_ROWS)
    assert_readable(figure, at_least=shown + 1)
    sheets = [np.asarray(axes.images[0].get_array()) for axes in figure.axes]
    for sheet, expected in zip(sheets, (images[:, None], versions), strict=True):
        cells = sheet.reshape(shown, 14, -1, 22, channels).swapaxes(1, 2)
        np.testing.assert_array_equal(cells[:, :, 1:-1, 1:-1], expected[:shown])


@pytest.mark.parametrize(("count", "mistakes"), [(3, 0), (3, 1), (20, 26), (62, 26)])
def test_mistakes_are_the_most_confident(assert_readable, count, mistakes):
    classes = CLASSES[count]
    rng = np.random.default_rng(mistakes)
    labels = rng.integers(0, len(classes), 10_000)
    logits = 12 * np.eye(len(classes), dtype=np.float32)[labels]
    wrong = rng.choice(10_000, mistakes, replace=False)
    other = 1 + rng.integers(0, len(classes) - 1, mistakes)
    predicted = (labels[wrong] + other) % len(classes)
    logits[wrong, predicted] = 12 + 10 * rng.random(mistakes)
    images = noise(10_000, 8, 8, 1)
    figure = figures.mistakes(images, labels, logits, NAMED._replace(classes=classes))
    if not mistakes:
        assert figure is None
        return
    assert figure is not None
    assert_readable(figure, at_least=min(mistakes, 25) + 1)
    softmax = np.exp(logits.astype(float))
    confidence = (softmax / softmax.sum(1, keepdims=True))[wrong, predicted]
    order = np.argsort(-confidence)[:25]
    drawn = [axes for axes in figure.axes if axes.images]
    assert len(drawn) == len(order)
    for axes, place in zip(drawn, order, strict=True):
        index = wrong[place]
        np.testing.assert_array_equal(axes.images[0].get_array(), images[index, ..., 0])
        assert f"#{index}" in axes.get_title()
        percent = 100 * confidence[place]
        assert (">99.9" if percent > 99.9 else f"{percent:.1f}") in axes.get_title()


# -- confusion matrix


@all_classes
def test_a_confusion_matrix_is_readable_and_has_its_numbers(assert_readable, classes):
    size = len(classes)
    confusion = np.full((size, size), 5_958 * (size != 3))
    confusion[0] = np.arange(size) + 1
    figure = figures.confusion_matrix(confusion, NAMED._replace(classes=classes))
    assert_readable(figure, at_least=2 * size)
    (axes,) = figure.axes
    shown = {
        (int(text.get_position()[1]), int(text.get_position()[0])): text.get_text()
        for text in axes.texts
    }
    if size > page.NUMBERS_UP_TO:
        assert not shown
    else:
        expected = {place: f"{n:,}" for place, n in np.ndenumerate(confusion)}
        assert shown == expected


# -- learning curves


@pytest.mark.parametrize(
    ("epochs", "phases", "loss", "accuracy"),
    [
        (1, ("train",), 0.1, 0.9),
        (2, ("head", "fine-tuning"), 0.0, 1.0),
        (12, ("train",), 1e-30, 0.0),
        (12, ("train",), -3.0, 0.9999833),
        (20, ("head", "a name without an end " * 5), 1e6, 0.1),
        (500, tuple(f"phase number {i}" for i in range(12)), 0.1, 0.9),
    ],
)
def test_curves_of_extreme_values_and_lengths_are_drawn(
    assert_readable, epochs, phases, loss, accuracy
):
    rows = make_epochs(epochs, phases)
    for row in rows[epochs:]:
        row.update(loss=loss, accuracy=accuracy)
    figure = curves.curves(rows, 1, "train_loss", NAMED)
    assert_readable(figure, at_least=9)
    if epochs > 1:
        assert_has_the_values(figure, rows)


def assert_has_the_values(figure, rows):
    loss, error, *rates = figure.axes
    for axes, value_of in (
        (loss, lambda row: row["loss"]),
        (error, lambda row: 100 * (1 - row["accuracy"])),
    ):
        for split in ("train", "val"):
            mine = [
                (row["epoch"], value_of(row)) for row in rows if row["split"] == split
            ]
            found = [
                line.get_xydata() for line in axes.lines if len(line.get_xdata()) > 1
            ]
            assert any(np.allclose(mine, one) for one in found if len(one) == len(mine))
    mine = [
        (row["epoch"], row["learning_rate"]) for row in rows if "learning_rate" in row
    ]
    for axes in rates:
        assert np.allclose(axes.lines[0].get_xydata(), mine)


@pytest.mark.parametrize("falling", [0.9, 0.5])
def test_curves_are_those_of_the_metrics(assert_readable, falling):
    rows = make_epochs(40, ("head", "fine-tuning"))
    for row in rows[::2]:
        row["learning_rate"] = 0.1 * falling ** row["epoch"]
    figure = curves.curves(rows, 17, "val_accuracy", OF_X)
    assert_has_the_values(figure, rows)
    assert_readable(figure, at_least=9)
    for axes, value in zip(
        figure.axes, (rows[33]["loss"], 100 * (1 - rows[33]["accuracy"])), strict=False
    ):
        (best,) = [line for line in axes.lines if line.get_markerfacecolor() == "none"]
        np.testing.assert_allclose(np.asarray(best.get_xydata()), [[17, value]])


def test_equal_figures_are_equal_files(tmp_path):
    one, two = tmp_path / "one.png", tmp_path / "new folder" / "two.png"
    for path in (one, two):
        figures.save(curves.curves(make_epochs(5), 1, "val_loss", OF_X), path)
    assert one.read_bytes() == two.read_bytes()
    with PIL.Image.open(one) as image:
        assert image.format == "PNG" and "Software" not in image.info
