"""Figures of images and confusions, as matplotlib Figures.

Their arguments `run` and `subject` are for the title: the run's name, and what the
images are, such as "test images of mnist". Images are uint8 in 0..255, 255 is ink.

Import this module only to draw something: matplotlib takes a while to load.
"""

from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from jaxtyping import Float, Integer, UInt8
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from mnist_jax.evaluation import most_confident_mistakes
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
    place_title,
    shorten,
)

__all__ = ["augmented", "confusion_matrix", "curves", "mistakes", "samples", "save"]

SAMPLES_PER_CLASS = 15
MISTAKES_SHOWN = 25
MISTAKES_PER_ROW = 5

_GAP = 2  # between two samples, in pixels of the samples
_LARGEST_PIXEL = 3  # of a sample, in pixels of the figure
_ALL_RIGHT = "#a6cbe8"  # the diagonal's colour for a digit without errors
# So many errors in a cell are always drawn darkest.
_MANY_ERRORS, _MANY_PER_CENT = 50, 20


def save(figure: Figure, path: Path) -> None:
    """Write a figure as a PNG file, atomically; may raise OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_writer(path) as file:
        # Without matplotlib's version equal figures are equal files.
        figure.savefig(file, format="png", metadata={"Software": None})


@matplotlib.rc_context(STYLE)
def samples(
    images: UInt8[np.ndarray, "n h w 1"],
    labels: Integer[np.ndarray, " n"],
    *,
    run: str,
    subject: str,
) -> Figure:
    """Draw the first images of every class that occurs, one class per row."""
    classes = np.unique(labels)
    cells = np.zeros((len(classes), SAMPLES_PER_CLASS, *images.shape[1:3]), np.uint8)
    for row, label in enumerate(classes):
        first = images[labels == label][:SAMPLES_PER_CLASS, ..., 0]
        cells[row, : len(first)] = first
    sheet = _tile(cells)
    left, top = 0.4, 0.5
    # A pixel of a 28x28 image is exactly two of the figure's.
    width = WIDTH - left - 0.1
    height = width * sheet.shape[0] / sheet.shape[1]
    figure = new_figure(top + height + 0.1)
    title = f": {subject}, the first of each class"
    place_title(figure, left=left, run=run, title=title)
    axes = _show(figure, sheet, left=left, top=top, width=width, height=height)
    axes.set_yticks(_row_centres(sheet, len(classes)), classes)
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
    """Draw each image on the left, and augmented versions of it on the right.

    Only the first channel is shown. Floating-point versions are in 0..1. Labels, if
    given, are written beside the rows.
    """
    if versions.dtype != np.uint8:
        versions = np.round(versions * 255)
    originals, beside = _tile(images[:, None, ..., 0]), _tile(versions[..., 0])
    left, top = 0.4, 0.78
    # The halves are an image's width apart.
    columns = 2 * originals.shape[1] + beside.shape[1]
    room = (WIDTH - left - 0.1) * DPI / columns
    # A whole number of pixels keeps those of a digit equally large, if there is room.
    pixel = min(int(room), _LARGEST_PIXEL) if room >= 1 else room
    gap = originals.shape[1] * pixel / DPI
    height = originals.shape[0] * pixel / DPI
    figure = new_figure(top + height + 0.1)
    note = "left: as stored; right: as training may see them, drawn anew in each step"
    place_title(figure, left=left, run=run, title=f": {subject}, augmented", note=note)
    for sheet in (originals, beside):
        width = sheet.shape[1] * pixel / DPI
        _show(figure, sheet, left=left, top=top, width=width, height=height)
        left += width + gap
    if labels is not None:
        figure.axes[0].set_yticks(_row_centres(originals, len(images)), labels)
        size = min(11.0, 0.9 * 72 * height / len(images))  # points
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
    """Draw a confusion matrix [true, predicted] of counts.

    If it is normalized, each row is shown in per cent of its sum.
    """
    classes, examples = len(confusion), confusion.sum()
    values = row_percentages(confusion) if normalized else confusion.astype(float)
    left, top, width, height = 0.65, 0.78, 7.2, 4.8
    figure = new_figure(top + height + 0.6)
    accuracy = np.trace(confusion) / examples
    title = f": accuracy {accuracy:.4f} on {examples:,} {subject}"
    unit = "per cent of each true digit" if normalized else "number of images"
    note = f"{unit}; errors in red, right predictions in blue, stronger means more"
    place_title(figure, left=left, run=run, title=title, note=note)
    colors = _cell_colors(
        values,
        right=np.nan_to_num(np.diag(row_percentages(confusion))) / 100,
        many=_MANY_PER_CENT if normalized else _MANY_ERRORS,
    )
    axes = place_axes(figure, left=left, top=top, width=width, height=height)
    axes.imshow(colors, aspect="auto")
    for (row, column), value in np.ndenumerate(values):
        shown = _percent(value) if normalized else f"{int(value):,}"
        # Confusions that never happened, and digits without examples, which are NaN.
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
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_ticks(np.arange(classes))
        axis.set_ticks(np.arange(classes + 1) - 0.5, minor=True)
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
    """Draw the most confident wrong predictions."""
    found = most_confident_mistakes(logits, labels)
    total = len(found.indices)
    count = min(total, MISTAKES_SHOWN)
    if not total:
        return _no_mistakes(run, f"{len(labels):,} {subject}")
    rows = -(-count // MISTAKES_PER_ROW)
    margin, top, image_size, row_height = 0.2, 0.78, 1.1, 1.62
    pitch = (WIDTH - 2 * margin) / MISTAKES_PER_ROW
    figure = new_figure(top + rows * row_height + 0.1)
    title = f": the {count} most confident of {total:,} mistakes"
    if count == total:
        title = f": all {total} mistakes" if total > 1 else ": its only mistake"
    note = f"{len(labels):,} {subject}: true → predicted, probability of the prediction"
    note += "; # index of the image"
    place_title(figure, left=margin + 0.23, run=run, title=title, note=note)
    for place in range(count):
        row, column = divmod(place, MISTAKES_PER_ROW)
        index = found.indices[place]
        axes = _show(
            figure,
            images[index, ..., 0],
            left=margin + column * pitch + (pitch - image_size) / 2,
            top=top + row * row_height + 0.38,
            width=image_size,
            height=image_size,
        )
        confidence = found.confidence[place]
        shown = ">99.9" if confidence > 0.999 else f"{100 * confidence:.1f}"
        caption = f"{labels[index]} → {found.predicted[place]}, {shown} %"
        axes.set_title(caption, pad=16, fontsize=9.5)
        style: dict[str, Any] = {"size": 8, "color": MUTED, "ha": "center"}
        axes.text(0.5, 1.04, f"#{index}", transform=axes.transAxes, **style)
    return figure


def row_percentages(confusion: Integer[np.ndarray, "k k"]) -> Float[np.ndarray, "k k"]:
    """Return each row in per cent of its sum; NaN if the sum is 0."""
    totals = confusion.sum(axis=1, keepdims=True)
    return np.where(totals > 0, 100 * confusion / np.maximum(totals, 1), np.nan)


def readable_on(color: Float[np.ndarray, " 3"]) -> str:
    """Return black or white, whichever contrasts more with an RGB colour in 0..1."""
    luminance = relative_luminance(color) + 0.05
    return "black" if luminance / 0.05 >= 1.05 / luminance else "white"


def relative_luminance(color: Float[np.ndarray, " 3"]) -> float:
    """Return WCAG 2's luminance in 0..1 of an RGB colour in 0..1."""
    color = np.asarray(color)
    linear = np.where(color <= 0.04045, color / 12.92, ((color + 0.055) / 1.055) ** 2.4)
    return float(linear @ np.array([0.2126, 0.7152, 0.0722]))


def _show(figure: Figure, image: np.ndarray, **place: float) -> Axes:
    """Show a grey image in axes without ticks; see `place_axes`."""
    axes = place_axes(figure, **place)
    axes.imshow(image, cmap="gray_r", vmin=0, vmax=255, aspect="auto")
    axes.set(xticks=[], yticks=[])
    return axes


def _row_centres(sheet: np.ndarray, rows: int) -> np.ndarray:
    return (np.arange(rows) + 0.5) * sheet.shape[0] / rows - 0.5


def _tile(images: np.ndarray) -> UInt8[np.ndarray, "height width"]:
    """Join images [rows, columns, H, W] in 0..255 into one, with a gap around each."""
    edge = (_GAP // 2, _GAP // 2)
    padded = np.pad(images.astype(np.uint8), ((0, 0), (0, 0), edge, edge))
    rows, columns, height, width = padded.shape
    return padded.swapaxes(1, 2).reshape(rows * height, columns * width)


def _cell_colors(
    values: Float[np.ndarray, "k k"], *, right: Float[np.ndarray, " k"], many: float
) -> Float[np.ndarray, "k k 3"]:
    """Return the colours of the cells: blue on the diagonal, red off it.

    Args:
        values: of the cells.
        right: share of each digit that is right, in 0..1.
        many: the darkest red, unless some error is larger; so a matrix with few errors
            is pale.
    """
    errors = np.nan_to_num(values)
    np.fill_diagonal(errors, 0)
    # The root and the offset keep a single error visible beside a thousand.
    shades = 0.12 + 0.78 * np.sqrt(errors / max(many, errors.max()))
    colors = colormaps["OrRd"](shades)[..., :3]
    colors[errors == 0] = 1
    blue = np.array(to_rgb(_ALL_RIGHT))
    np.einsum("iic->ic", colors)[:] = 1 - right[:, None] * (1 - blue)
    return colors


def _percent(value: float) -> str:
    if np.isnan(value):
        return "-"
    return f"{value:.0f}" if value in (0, 100) else f"{value:.2f}"


def _no_mistakes(run: str, images: str) -> Figure:
    figure = new_figure(2.0)
    centred: dict[str, Any] = {"ha": "center", "va": "center"}
    figure.text(0.5, 0.6, "No mistakes", size=22, **centred)
    where = f"{shorten(run, RUN_LENGTH)} on {images}"
    figure.text(0.5, 0.34, where, size=10, color=MUTED, **centred)
    return figure
