"""Pictures of digits and confusions: true, readable, and within the canvas."""

from typing import Any

import numpy as np
import PIL.Image
import pytest
from matplotlib.figure import Figure

from mnist_jax.report import figures
from mnist_jax.report.style import DPI, WIDTH

# As long as they may get: longer names are cut.
NAMED: dict[str, Any] = {
    "run": "a-config-with-a-name-as-long-as-nobody-would-like-to-type-it (seed 0)",
    "subject": "validation images of digits",
}
OF_X: dict[str, Any] = {"run": "x (seed 0)", "subject": "test images of mnist"}


def hard_confusion():
    confusion = np.diag(np.full(10, 5_958))
    confusion[0] = 5_958
    confusion[2, 6] = 1
    confusion[7] = 0
    return confusion


# -- confusion matrix


@pytest.mark.parametrize(
    ("confusion", "normalized"),
    [
        (np.full((10, 10), 5_958), False),
        (hard_confusion(), True),
        (np.diag([1] * 10), False),
    ],
)
def test_confusion_matrix_is_readable(assert_readable, confusion, normalized):
    figure = figures.confusion_matrix(confusion, normalized=normalized, **NAMED)
    assert_readable(figure, at_least=100 + 20 + 4)


def cells(figure: Figure):
    return {
        (int(text.get_position()[1]), int(text.get_position()[0])): text
        for text in figure.axes[0].texts
    }


def test_confusion_matrix_shows_counts_with_true_digits_in_rows(drawn_texts):
    confusion = hard_confusion()
    figure = figures.confusion_matrix(confusion, **OF_X)
    for (row, column), text in cells(figure).items():
        assert text.get_text() == f"{confusion[row, column]:,}"
    right, total = np.trace(confusion), confusion.sum()
    title = (
        f"x (seed 0): accuracy {right / total:.4f} on {total:,} test images of mnist"
    )
    assert title in [text for text, _ in drawn_texts(figure)]


def test_normalized_confusion_matrix_shows_row_percentages():
    confusion = hard_confusion()
    shown = cells(figures.confusion_matrix(confusion, **OF_X, normalized=True))
    assert shown[2, 6].get_text() == "0.02"
    assert shown[2, 2].get_text() == "99.98"
    assert shown[0, 4].get_text() == "10.00"
    assert shown[4, 4].get_text() == "100"
    assert shown[4, 5].get_text() == "0"
    assert {shown[7, column].get_text() for column in range(10)} == {"-"}


@pytest.mark.parametrize("normalized", [False, True])
def test_every_number_contrasts_with_its_cell(normalized):
    rng = np.random.default_rng(0)
    confusion = rng.integers(0, 60, (10, 10)) * (rng.random((10, 10)) < 0.8)
    figure = figures.confusion_matrix(confusion, **OF_X, normalized=normalized)
    colors = np.asarray(figure.axes[0].images[0].get_array())
    for place, text in cells(figure).items():
        ink = figures.relative_luminance(np.array(figures.to_rgb(text.get_color())))
        paper = figures.relative_luminance(colors[place])
        contrast = (max(ink, paper) + 0.05) / (min(ink, paper) + 0.05)
        assert contrast >= 4.5  # WCAG 2, level AA.


def test_a_single_error_is_seen_beside_a_thousand_hits():
    confusion = np.diag([1_000] * 10)
    confusion[3, 5], confusion[4, 9] = 1, 20
    figure = figures.confusion_matrix(confusion, **OF_X)
    colors = np.asarray(figure.axes[0].images[0].get_array())
    one, twenty = colors[3, 5], colors[4, 9]
    assert np.abs(one - 1).max() > 0.15
    assert figures.relative_luminance(twenty) < figures.relative_luminance(one) - 0.4
    assert (colors[0, 1] == 1).all()


def colors_of(confusion, **kwargs):
    figure = figures.confusion_matrix(np.array(confusion), **OF_X, **kwargs)
    return np.asarray(figure.axes[0].images[0].get_array())


@pytest.mark.parametrize("normalized", [False, True])
def test_the_worst_of_few_errors_is_pale(normalized):
    few = colors_of([[999, 1], [2, 998]], normalized=normalized)
    many = colors_of([[999, 1], [50 + 450, 500]], normalized=normalized)
    luminance = figures.relative_luminance
    assert luminance(few[1, 0]) > luminance(many[1, 0]) + 0.4
    assert luminance(few[1, 0]) > 0.6


def test_the_diagonal_is_the_paler_the_fewer_of_a_digit_are_right():
    confusion = [[100, 0, 0], [50, 50, 0], [0, 100, 0]]
    luminances = [
        figures.relative_luminance(color)
        for color in np.diagonal(colors_of(confusion)).T
    ]
    assert luminances[0] < luminances[1] - 0.1 and luminances[1] < luminances[2] - 0.1
    assert luminances[2] == pytest.approx(1)


# -- mistakes


@pytest.mark.parametrize("mistakes", [0, 1, 6, 25, 26])
def test_mistakes_are_readable_and_the_most_confident(assert_readable, mistakes):
    rng = np.random.default_rng(mistakes)
    labels = rng.integers(0, 10, 10_000)
    logits = 12 * np.eye(10, dtype=np.float32)[labels]
    wrong = rng.choice(10_000, mistakes, replace=False)
    predicted = (labels[wrong] + 1 + rng.integers(0, 9, mistakes)) % 10
    logits[wrong, predicted] = 12 + 10 * rng.random(mistakes)
    images = rng.integers(0, 256, (10_000, 8, 8, 1)).astype(np.uint8)
    figure = figures.mistakes(images, labels, logits, **OF_X)
    texts = assert_readable(figure, at_least=2 + 2 * min(mistakes, 25))

    softmax = np.exp(logits.astype(float))
    confidence = (softmax / softmax.sum(1, keepdims=True))[wrong, predicted]
    order = np.argsort(-confidence)[:25]
    assert len(figure.axes) == len(order)
    for axes, place in zip(figure.axes, order, strict=True):
        index = wrong[place]
        percent = 100 * confidence[place]
        expected = ">99.9" if percent > 99.9 else f"{percent:.1f}"
        assert axes.get_title() == f"{labels[index]} → {predicted[place]}, {expected} %"
        assert axes.texts[0].get_text() == f"#{index}"
        np.testing.assert_array_equal(axes.images[0].get_array(), images[index, ..., 0])
    headline = {
        0: "No mistakes",
        1: "x (seed 0): its only mistake",
        25: "x (seed 0): all 25 mistakes",
        26: "x (seed 0): the 25 most confident of 26 mistakes",
    }
    assert mistakes not in headline or headline[mistakes] in texts
    assert any("10,000 test images of mnist" in text for text in texts)


def test_many_mistakes_of_a_run_with_a_long_name_are_readable(assert_readable):
    labels, logits = np.arange(20_000) % 10, np.eye(10, dtype=np.float32)[[0] * 20_000]
    images = np.zeros((20_000, 8, 8, 1), np.uint8)
    figure = figures.mistakes(images, labels, logits, **NAMED)
    assert_readable(figure, at_least=52)


# -- samples


@pytest.mark.parametrize("classes", [2, 10])
def test_samples_are_the_first_of_each_class(assert_readable, classes):
    rng = np.random.default_rng(0)
    labels = rng.integers(0, classes, 500).astype(np.uint8)
    labels[labels == 1] = np.where(np.arange((labels == 1).sum()) < 3, 1, 0)
    images = rng.integers(1, 256, (500, 28, 28, 1)).astype(np.uint8)
    figure = figures.samples(images, labels, **NAMED)
    texts = assert_readable(figure, at_least=classes + 1)
    assert NAMED["subject"] in texts[-1] or NAMED["subject"] in texts[0]
    sheet = np.asarray(figure.axes[0].images[0].get_array())
    cell = sheet.reshape(classes, 30, figures.SAMPLES_PER_CLASS, 30).swapaxes(1, 2)
    for label in range(classes):
        mine = images[labels == label][: figures.SAMPLES_PER_CLASS, ..., 0]
        np.testing.assert_array_equal(cell[label, : len(mine), 1:-1, 1:-1], mine)
        assert not cell[label, len(mine) :].any()


# -- files


@pytest.mark.parametrize("height", [1.0, 3.5, 8.75])
def test_png_has_the_size_of_the_figure(tmp_path, height):
    path = tmp_path / "a new folder" / "x.png"
    figures.save(figures.new_figure(height), path)
    with PIL.Image.open(path) as image:
        assert image.format == "PNG"
        assert image.size == (WIDTH * DPI, height * DPI)
        assert "Software" not in image.info


def test_equal_figures_are_equal_files(make_epochs, tmp_path):
    for name in ("one.png", "two.png"):
        rows = make_epochs(5)
        figure = figures.curves(rows, best_epoch=1, monitor="val_loss", **OF_X)
        figures.save(figure, tmp_path / name)
    assert (tmp_path / "one.png").read_bytes() == (tmp_path / "two.png").read_bytes()


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_a_save_that_fails_leaves_the_old_file(tmp_path, monkeypatch, error):
    path = tmp_path / "curves.png"
    path.write_bytes(b"the old picture")

    def half(self, file, **kwargs):
        file.write(b"half a pic")
        raise error

    monkeypatch.setattr(Figure, "savefig", half)
    with pytest.raises(error):
        figures.save(figures.new_figure(1), path)
    assert path.read_bytes() == b"the old picture"
    assert list(tmp_path.iterdir()) == [path]
