"""The pictures that show images and confusions: data in, matplotlib Figure out.

Import this module only where something is drawn: matplotlib takes a while to load.
"""

from pathlib import Path

import matplotlib
import numpy as np
from jaxtyping import Float, Integer, UInt8
from matplotlib import colormaps
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from mnist_jax.evaluation import Mistakes, most_confident_mistakes
from mnist_jax.files import atomic_writer
from mnist_jax.report.curves import curves
from mnist_jax.report.style import (
    DPI,
    INK,
    MUTED,
    RUN_LENGTH,
    STYLE,
    WIDTH,
    new_figure,
    place_axes,
    place_text,
    shorten,
)

__all__ = ["augmented", "confusion_matrix", "curves", "mistakes", "samples", "save"]

SAMPLES_PER_CLASS = 15
MISTAKES_SHOWN = 25
MISTAKES_PER_ROW = 5

_GAP = 2  # Pixels of the original size between two samples.
_LARGEST_PIXEL = 3  # Of an image of few versions, in pixels of the figure.
_RIGHT = "#a6cbe8"  # The diagonal's colour where all images of a digit are right.
# What looks as bad as it gets, however few the errors of a picture are.
_MANY_ERRORS, _MANY_PER_CENT = 50, 20


def save(figure: Figure, path: Path) -> None:
    """Write a figure as a PNG file: the whole of it, or nothing.

    Raises:
        OSError: The file cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_writer(path) as file:
        # No note of matplotlib's version: equal pictures are equal files.
        figure.savefig(file, format="png", metadata={"Software": None})


@matplotlib.rc_context(STYLE)
def samples(
    images: UInt8[np.ndarray, "n h w 1"],
    labels: Integer[np.ndarray, " n"],
    *,
    run: str,
    subject: str,
) -> Figure:
    """Draw the first images of every class, one row a class.

    Args:
        images: uint8 [N, H, W, 1] in 0..255, 255 is ink.
        labels: integers [N]. Every value that occurs gets a row.
        run: The run's name, for the title.
        subject: What the images are, such as "training images of mnist".
    """
    classes = np.unique(labels)
    sheet = _contact_sheet(images, labels, classes)
    left, top = 0.4, 0.5
    # With 28x28 images a pixel of the sheet is exactly two of the figure's.
    width = WIDTH - left - 0.1
    height = width * sheet.shape[0] / sheet.shape[1]
    figure = new_figure(top + height + 0.1)
    title = f"{shorten(run, RUN_LENGTH)}: {subject}, the first of each class"
    place_text(figure, left=left, top=0.16, text=title, size=10)
    axes = place_axes(figure, left=left, top=top, width=width, height=height)
    axes.imshow(sheet, cmap="gray_r", vmin=0, vmax=255, aspect="auto")
    axes.set_xticks([])
    row_height = sheet.shape[0] / len(classes)
    axes.set_yticks((np.arange(len(classes)) + 0.5) * row_height - 0.5, classes)
    axes.tick_params(length=0, labelsize=11, labelcolor=INK)
    axes.spines[:].set_visible(False)
    return figure


@matplotlib.rc_context(STYLE)
def augmented(
    images: UInt8[np.ndarray, "rows h w c"],
    versions: UInt8[np.ndarray, "rows columns h w c"]
    | Float[np.ndarray, "rows columns h w c"],
    labels: Integer[np.ndarray, " rows"] | None = None,
    *,
    run: str,
    subject: str,
) -> Figure:
    """Draw each image on the left, and what augmentation makes of it on the right.

    Args:
        images: uint8 [rows, H, W, C] in 0..255, 255 is ink. Only the first channel is
            shown.
        versions: [rows, columns, H, W, C], uint8 in 0..255 or floating-point in 0..1.
        labels: integers [rows], or None: no labels at the rows.
        run: The run's name, for the title.
        subject: What the images are, such as "training images of mnist".
    """
    if versions.dtype != np.uint8:
        versions = np.round(versions * 255)
    originals, beside = _tile(images[:, None, ..., 0]), _tile(versions[..., 0])
    left, top = 0.4, 0.78
    # The halves are an image's width apart: 8 versions of 28x28, or 13, fill the page.
    columns = 2 * originals.shape[1] + beside.shape[1]
    room = (WIDTH - left - 0.1) * DPI / columns
    # All pixels of a digit are equally large, unless they are too many for the width.
    pixel = min(int(room), _LARGEST_PIXEL) if room >= 1 else room
    gap = originals.shape[1] * pixel / DPI
    height = originals.shape[0] * pixel / DPI
    figure = new_figure(top + height + 0.1)
    title = f"{shorten(run, RUN_LENGTH)}: {subject}, augmented"
    place_text(figure, left=left, top=0.16, text=title, size=10)
    note = "left: as stored; right: as training may see them, drawn anew in each step"
    place_text(figure, left=left, top=0.45, text=note, size=8.5, color=MUTED)
    for sheet in (originals, beside):
        width = sheet.shape[1] * pixel / DPI
        axes = place_axes(figure, left=left, top=top, width=width, height=height)
        axes.imshow(sheet, cmap="gray_r", vmin=0, vmax=255, aspect="auto")
        axes.set_xticks([])
        axes.set_yticks([])
        left += width + gap
    if labels is not None:
        row_height = originals.shape[0] / len(images)
        places = (np.arange(len(images)) + 0.5) * row_height - 0.5
        figure.axes[0].set_yticks(places, labels)
        size = min(11.0, 0.9 * 72 * height / len(images))  # Points, 72 an inch.
        figure.axes[0].tick_params(length=0, labelsize=size, labelcolor=INK)
    return figure


@matplotlib.rc_context(STYLE)
def confusion_matrix(
    confusion: Integer[np.ndarray, "k k"],
    *,
    run: str,
    subject: str,
    normalized: bool = False,
) -> Figure:
    """Draw a confusion matrix, errors in red and right predictions in blue.

    Args:
        confusion: Counts, [true, predicted].
        run: The run's name, for the title.
        subject: What the images are, such as "test images of mnist".
        normalized: Show each row in per cent of its sum instead of counts.
    """
    classes, examples = len(confusion), confusion.sum()
    values = row_percentages(confusion) if normalized else confusion.astype(float)
    left, top, width, height = 0.65, 0.78, 7.2, 4.8
    figure = new_figure(top + height + 0.6)
    accuracy = np.trace(confusion) / examples
    title = f"{shorten(run, RUN_LENGTH)}: accuracy {accuracy:.4f} "
    title += f"on {examples:,} {subject}"
    place_text(figure, left=left, top=0.2, text=title, size=10)
    unit = "per cent of each true digit" if normalized else "number of images"
    note = f"{unit}; errors in red, right predictions in blue, darker means more"
    place_text(figure, left=left, top=0.45, text=note, size=8.5, color=MUTED)

    colors = _cell_colors(
        values,
        right=np.nan_to_num(np.diag(row_percentages(confusion))) / 100,
        many=_MANY_PER_CENT if normalized else _MANY_ERRORS,
    )
    axes = place_axes(figure, left=left, top=top, width=width, height=height)
    axes.imshow(colors, aspect="auto")
    for (row, column), value in np.ndenumerate(values):
        shown = _percent(value) if normalized else f"{int(value):,}"
        # Confusions that never happened, and (NaN) digits without examples.
        faint = row != column and not value > 0
        axes.text(
            column,
            row,
            shown,
            ha="center",
            va="center_baseline",
            size=9,
            color=MUTED if faint else readable_on(colors[row, column]),
        )
    axes.set_xlabel("predicted", labelpad=6)
    axes.set_ylabel("true", labelpad=8)
    axes.set_xticks(np.arange(classes))
    axes.set_yticks(np.arange(classes))
    axes.set_xticks(np.arange(classes + 1) - 0.5, minor=True)
    axes.set_yticks(np.arange(classes + 1) - 0.5, minor=True)
    axes.grid(which="minor", linewidth=0.8)
    axes.tick_params(which="both", length=0)
    axes.tick_params(labelsize=10, labelcolor=INK)
    return figure


@matplotlib.rc_context(STYLE)
def mistakes(
    images: UInt8[np.ndarray, "n h w 1"],
    labels: Integer[np.ndarray, " n"],
    logits: Float[np.ndarray, "n 10"],
    *,
    run: str,
    subject: str,
) -> Figure:
    """Draw the wrong predictions that the model was surest of.

    Args:
        images: uint8 [N, H, W, 1] in 0..255, 255 is ink.
        labels: integers [N] in 0..9.
        logits: float32 [N, 10].
        run: The run's name, for the title.
        subject: What the images are, such as "test images of mnist".
    """
    found = most_confident_mistakes(logits, labels)
    shown = min(len(found.indices), MISTAKES_SHOWN)
    if not shown:
        return _no_mistakes(run, f"{len(labels):,} {subject}")
    rows = -(-shown // MISTAKES_PER_ROW)
    margin, top, image_size, row_height = 0.2, 0.78, 1.1, 1.62
    pitch = (WIDTH - 2 * margin) / MISTAKES_PER_ROW
    figure = new_figure(top + rows * row_height + 0.1)
    headline = _headline(shown, len(found.indices))
    title = f"{shorten(run, RUN_LENGTH)}: {headline}"
    place_text(figure, left=margin + 0.23, top=0.2, text=title, size=10)
    note = f"{len(labels):,} {subject}: true → predicted, probability of the prediction"
    note += "; # index of the image"
    place_text(figure, left=margin + 0.23, top=0.45, text=note, size=8.5, color=MUTED)
    for place in range(shown):
        row, column = divmod(place, MISTAKES_PER_ROW)
        axes = place_axes(
            figure,
            left=margin + column * pitch + (pitch - image_size) / 2,
            top=top + row * row_height + 0.38,
            width=image_size,
            height=image_size,
        )
        index = found.indices[place]
        axes.imshow(images[index, ..., 0], cmap="gray_r", vmin=0, vmax=255)
        axes.set_xticks([])
        axes.set_yticks([])
        caption = _caption(found, int(labels[index]), place)
        axes.set_title(caption, pad=16, fontsize=9.5)
        axes.text(
            0.5,
            1.04,
            f"#{index}",
            size=8,
            color=MUTED,
            ha="center",
            transform=axes.transAxes,
        )
    return figure


def row_percentages(confusion: Integer[np.ndarray, "k k"]) -> Float[np.ndarray, "k k"]:
    """Return each row in per cent of its sum; NaN where a row is empty."""
    totals = confusion.sum(axis=1, keepdims=True)
    return np.where(totals > 0, 100 * confusion / np.maximum(totals, 1), np.nan)


def readable_on(color: Float[np.ndarray, " 3"]) -> str:
    """Return black or white, whichever contrasts more with an RGB colour in 0..1."""
    luminance = relative_luminance(color)
    return (
        "black" if (luminance + 0.05) / 0.05 >= 1.05 / (luminance + 0.05) else "white"
    )


def relative_luminance(color: Float[np.ndarray, " 3"]) -> float:
    """Return WCAG 2's luminance in 0..1 of an RGB colour in 0..1."""
    color = np.asarray(color)
    linear = np.where(color <= 0.04045, color / 12.92, ((color + 0.055) / 1.055) ** 2.4)
    return float(linear @ np.array([0.2126, 0.7152, 0.0722]))


def _contact_sheet(
    images: UInt8[np.ndarray, "n h w 1"],
    labels: Integer[np.ndarray, " n"],
    classes: Integer[np.ndarray, " k"],
) -> UInt8[np.ndarray, "rows columns"]:
    """Return the first images of every class side by side in one."""
    cells = np.zeros((len(classes), SAMPLES_PER_CLASS, *images.shape[1:3]), np.uint8)
    for row, label in enumerate(classes):
        first = images[labels == label][:SAMPLES_PER_CLASS, ..., 0]
        cells[row, : len(first)] = first
    return _tile(cells)


def _tile(images: np.ndarray) -> UInt8[np.ndarray, "height width"]:
    """Return images [rows, columns, H, W] in 0..255 as one, with gaps around each."""
    edge = (_GAP // 2, _GAP // 2)
    padded = np.pad(images.astype(np.uint8), ((0, 0), (0, 0), edge, edge))
    rows, columns, height, width = padded.shape
    return padded.swapaxes(1, 2).reshape(rows * height, columns * width)


def _cell_colors(
    values: Float[np.ndarray, "k k"], *, right: Float[np.ndarray, " k"], many: float
) -> Float[np.ndarray, "k k 3"]:
    """Return a colour for every cell: blue on the diagonal, red off it.

    Args:
        values: What the cells say.
        right: Share in 0..1 of each digit that is right, for the blues.
        many: The least value that has the darkest red, unless all errors are larger
            still: a picture of few errors is a pale one.
    """
    errors = np.nan_to_num(values)
    np.fill_diagonal(errors, 0)
    # The root, and a first step, keep a single error visible beside a thousand.
    shades = 0.12 + 0.78 * np.sqrt(errors / max(many, errors.max()))
    colors = colormaps["OrRd"](shades)[..., :3]
    colors[errors == 0] = 1
    blue = np.array(to_rgb(_RIGHT))
    np.einsum("iic->ic", colors)[:] = 1 - right[:, None] * (1 - blue)
    return colors


def _percent(value: float) -> str:
    if np.isnan(value):
        return "-"
    return f"{value:.0f}" if value in (0, 100) else f"{value:.2f}"


def _headline(shown: int, total: int) -> str:
    if shown < total:
        return f"the {shown} most confident of {total:,} mistakes"
    return "its only mistake" if total == 1 else f"all {total} mistakes"


def _caption(found: Mistakes, label: int, place: int) -> str:
    confidence = found.confidence[place]
    shown = ">99.9" if confidence > 0.999 else f"{100 * confidence:.1f}"
    return f"{label} → {found.predicted[place]}, {shown} %"


def _no_mistakes(run: str, images: str) -> Figure:
    """Draw the picture of a model that got everything right."""
    figure = new_figure(2.0)
    figure.text(0.5, 0.6, "No mistakes", size=22, ha="center", va="center")
    figure.text(
        0.5,
        0.34,
        f"{shorten(run, RUN_LENGTH)} on {images}",
        size=10,
        color=MUTED,
        ha="center",
        va="center",
    )
    return figure
