"""Figures of images and confusions, as matplotlib Figures.

Images are uint8 in 0..255; with a single channel, 255 is ink.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from jaxtyping import Float, Integer, UInt8
from matplotlib.axes import Axes
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure

from mnist_jax.evaluation import Labels, Logits, most_confident_mistakes
from mnist_jax.files import atomic_writer
from mnist_jax.report.page import NUMBERS_UP_TO
from mnist_jax.report.style import INK, MUTED, STYLE, About, set_title, subplots

Images = UInt8[np.ndarray, "n h w c"]

SAMPLES_PER_ROW = 15
MISTAKES_SHOWN, MISTAKES_PER_ROW = 25, 5
MOST_ROWS = 20  # of samples and of augmented images

_GAP = 2  # between two images, in pixels of theirs
_MANY_ERRORS = 50  # in a cell are always drawn darkest


def save(figure: Figure, path: Path) -> None:
    """Write a figure as a PNG file, atomically; may raise OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_writer(path) as file:
        # Without matplotlib's version equal figures are equal files.
        figure.savefig(file, format="png", metadata={"Software": None})


@matplotlib.rc_context(STYLE)
def samples(images: Images, labels: Labels, about: About) -> Figure:
    """Draw the first images of the first classes that occur, one class per row."""
    present = np.unique(labels)[:MOST_ROWS]
    cells = np.zeros((len(present), SAMPLES_PER_ROW, *images.shape[1:]), np.uint8)
    for row, label in enumerate(present):
        first = images[labels == label][:SAMPLES_PER_ROW]
        cells[row, : len(first)] = first
    height, width = images.shape[1:3]
    figure, axes = subplots(1, 1, 0.5 + 0.49 * len(present) * height / width)
    show_rows(axes[0, 0], cells, [about.name(label, 16) for label in present])
    title = f"{about.subject}, the first of {len(present)} classes"
    set_title(figure, about.run, title)
    return figure


@matplotlib.rc_context(STYLE)
def augmented(
    images: Images,
    versions: Float[np.ndarray, "rows columns h w c"],
    labels: Labels,
    about: About,
) -> Figure:
    """Draw each image on the left, and augmented versions of it, in 0..1, beside it."""
    some = slice(MOST_ROWS)
    images, labels = images[some], labels[some]
    versions = np.round(np.asarray(versions[some]) * 255).astype(np.uint8)
    rows, columns, height, width, _ = versions.shape
    tall = 0.7 + 6.5 / (columns + 1) * rows * height / width
    figure, axes = subplots(1, 2, tall, width_ratios=[1, columns])
    names = [about.name(label, 16) for label in labels]
    show_rows(axes[0, 0], images[:, None], names)
    show_rows(axes[0, 1], versions, [])
    note = "left: as stored; right: as training may see them, drawn again in each step"
    set_title(figure, about.run, f"{about.subject}, augmented", note)
    return figure


@matplotlib.rc_context(STYLE)
def confusion_matrix(confusion: Integer[np.ndarray, "k k"], about: About) -> Figure:
    """Draw the counts of a confusion matrix [true, predicted].

    Right predictions are the bluer the larger their share of the class; errors are red.
    Above `page.NUMBERS_UP_TO` classes, only the colours are drawn.
    """
    size, examples = len(confusion), confusion.sum()
    numbers = size <= NUMBERS_UP_TO
    figure, ((axes,),) = subplots(1, 1, 1.6 + 0.42 * size if numbers else 8.5)
    hits = np.diag(np.diag(confusion))
    shares = hits / np.maximum(confusion.sum(axis=1, keepdims=True), 1)
    errors = confusion - hits
    norm = PowerNorm(0.5, vmin=0, vmax=max(_MANY_ERRORS, errors.max()))
    box: dict[str, Any] = {"aspect": "auto" if numbers else "equal"}
    axes.imshow(np.ma.masked_equal(shares, 0), cmap="Blues", vmin=0, vmax=2.5, **box)
    axes.imshow(np.ma.masked_equal(errors, 0), cmap="OrRd", norm=norm, **box)
    if numbers:
        for (row, column), count in np.ndenumerate(confusion):
            dark = norm(errors[row, column]) > 0.7
            color = "white" if dark else INK if count else MUTED
            place: dict[str, Any] = {"ha": "center", "va": "center_baseline"}
            font = 9 if size <= 12 else 7
            axes.text(column, row, f"{count:,}", color=color, size=font, **place)
    names = [about.name(label, 16) for label in range(size)]
    font = min(10, max(5, 400 / size))
    rotation = 90 if size * max(map(len, names)) > 80 else 0
    axes.set_xticks(range(size), names, fontsize=font, rotation=rotation)
    axes.set_yticks(range(size), names, fontsize=font)
    axes.set_xticks(np.arange(size + 1) - 0.5, minor=True)
    axes.set_yticks(np.arange(size + 1) - 0.5, minor=True)
    axes.grid(which="minor", linewidth=0.8 if numbers else 0.3)
    axes.tick_params(which="both", length=0, labelcolor=INK)
    axes.set(xlabel="predicted", ylabel="true")
    accuracy = np.trace(confusion) / examples
    title = f"accuracy {accuracy:.4f} on {examples:,} {about.subject}"
    note = "number of images; right predictions in blue, errors in red"
    set_title(figure, about.run, title, note)
    return figure


@matplotlib.rc_context(STYLE)
def mistakes(
    images: Images, labels: Labels, logits: Logits, about: About
) -> Figure | None:
    """Draw the most confident wrong predictions; None if there are none."""
    found = most_confident_mistakes(logits, labels)
    total = len(found.indices)
    if not total:
        return None
    count = min(total, MISTAKES_SHOWN)
    rows = -(-count // MISTAKES_PER_ROW)
    figure, axes = subplots(rows, MISTAKES_PER_ROW, 0.6 + 1.75 * rows)
    for one in axes.flat[count:]:
        one.set_axis_off()
    for place, one in enumerate(axes.flat[:count]):
        index, confidence = found.indices[place], found.confidence[place]
        show(one, images[index])
        true = about.name(labels[index], 18)
        predicted = about.name(found.predicted[place], 18)
        gap = " " if len(true + predicted) < 16 else "\n"
        percent = ">99.9" if confidence > 0.999 else f"{100 * confidence:.1f}"
        caption = f"{true} →{gap}{predicted}\n{percent} %, #{index}"
        one.set_title(caption, fontsize=8.5)
    which = f"the most confident of {total:,}" if count < total else f"all {total}"
    title = f"{which} mistakes on {len(labels):,} {about.subject}"
    note = "true → predicted, probability of the prediction, index of the image"
    set_title(figure, about.run, title, note)
    return figure


def show(axes: Axes, image: UInt8[np.ndarray, "h w c"]) -> None:
    """Show an image without ticks: in its colours if it has three channels."""
    shown = image if image.shape[-1] == 3 else image[..., 0]
    axes.imshow(shown, vmin=0, vmax=255)
    axes.set(xticks=[], yticks=[])


def show_rows(
    axes: Axes, images: UInt8[np.ndarray, "rows columns h w c"], names: Sequence[str]
) -> None:
    """Show images as one, with a gap around each and the names beside the rows."""
    background = 255 if images.shape[-1] == 3 else 0
    edge = (_GAP // 2, _GAP // 2)
    widths = ((0, 0), (0, 0), edge, edge, (0, 0))
    padded = np.pad(images, widths, constant_values=background)
    rows, columns, height, width, channels = padded.shape
    sheet = padded.swapaxes(1, 2).reshape(rows * height, columns * width, channels)
    show(axes, sheet)
    middles = (np.arange(len(names)) + 0.5) * height - 0.5
    axes.set_yticks(middles, names)
    font = min(10, 25 * height / width)
    axes.tick_params(length=0, labelsize=font, labelcolor=INK)
    axes.spines[:].set_visible(False)
