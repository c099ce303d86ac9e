"""Figures of what a network computes inside; see `mnist_jax.report.figures`."""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
from jaxtyping import Bool, Float, Float32, Integer, UInt8
from matplotlib import colormaps
from matplotlib.colors import Colormap
from matplotlib.figure import Figure

from mnist_jax.report.network import Saliency, principal_components
from mnist_jax.report.style import (
    HAIRLINE,
    INK,
    MUTED,
    STYLE,
    WIDTH,
    new_figure,
    place_axes,
    place_text,
    place_title,
)

MAPS_SHOWN = 16  # of a layer
_MARGIN, _TOP = 0.2, 0.78


@matplotlib.rc_context(STYLE)
def kernels(values: Float32[np.ndarray, "h w n"], *, run: str) -> Figure:
    """Draw kernels side by side; red is positive, blue negative, white is zero."""
    height, width, count = values.shape
    columns = min(count, MAPS_SHOWN)
    rows = -(-count // columns)
    side = min(0.75, (WIDTH - 2 * _MARGIN) / columns)
    figure = new_figure(_TOP + rows * side * height / width + 0.1)
    limit = float(np.abs(values).max()) or 1.0
    note = f"red is positive, blue negative; the largest weight is {limit:.2g}"
    title = f": the {count} kernels of the first convolution"
    place_title(figure, left=_MARGIN, run=run, title=title, note=note)
    axes = place_axes(
        figure,
        left=_MARGIN,
        top=_TOP,
        width=columns * side,
        height=rows * side * height / width,
    )
    sheet = _sheet(np.moveaxis(values, 2, 0), rows, columns)
    axes.imshow(sheet, cmap=_framed("RdBu_r"), vmin=-limit, vmax=limit, aspect="auto")
    axes.set_axis_off()
    return figure


@matplotlib.rc_context(STYLE)
def feature_maps(
    maps: Mapping[str, Float32[np.ndarray, "_ _ _"]], *, run: str, subject: str
) -> Figure:
    """Draw the first maps of each layer, one layer in a row."""
    label, row_height = 1.25, 0.48
    figure = new_figure(_TOP + row_height * len(maps) + 0.1)
    title = f": feature maps of the first of the {subject}"
    note = f"the first {MAPS_SHOWN} of each layer at most; the more ink, the higher"
    place_title(figure, left=_MARGIN, run=run, title=title, note=note)
    side = (WIDTH - label - _MARGIN) / MAPS_SHOWN
    for row, (name, values) in enumerate(maps.items()):
        top = _TOP + row * row_height
        height, width, count = values.shape
        text = f"{name}\n{height} x {width} x {count}"
        place_text(figure, left=_MARGIN, top=top, text=text, size=7.5, color=MUTED)
        shown = np.moveaxis(values[..., :MAPS_SHOWN], 2, 0)
        axes = place_axes(
            figure, left=label, top=top, width=side * len(shown), height=side
        )
        sheet = _sheet(shown, 1, len(shown))
        axes.imshow(sheet, cmap=_framed("gray_r"), aspect="auto")
        axes.set_axis_off()
    return figure


@matplotlib.rc_context(STYLE)
def saliency(
    image: UInt8[np.ndarray, "h w 1"],
    found: Sequence[Saliency],
    *,
    index: int,
    label: int,
    run: str,
    subject: str,
) -> Figure:
    """Draw an image, and beside it the attributions of some of its logits.

    All attributions have the same scale.
    """
    side, gap, top = 2.2, 0.35, 1.2
    figure = new_figure(top + side + 0.15)
    title = f": image #{index} of the {subject}, a {label}"
    place_title(figure, left=_MARGIN, run=run, title=title)
    limit = max(float(np.abs(one.attributions).max()) for one in found) or 1.0
    panels: list[tuple[str, str, np.ndarray, dict[str, Any]]] = [
        ("the image", "", image[..., 0], {"cmap": "gray_r"})
    ]
    for one in found:
        about = f"{one.difference:+.2f} above an empty image\n"
        about += f"attributions sum to {one.attributions.sum():+.2f}"
        scale = {"cmap": "RdBu_r", "vmin": -limit, "vmax": limit}
        panels.append((f"for the logit of {one.digit}", about, one.attributions, scale))
    for column, (name, about, values, scale) in enumerate(panels):
        left = _MARGIN + column * (side + gap)
        place_text(figure, left=left, top=0.58, text=name, size=9)
        place_text(figure, left=left, top=0.78, text=about, size=8, color=MUTED)
        axes = place_axes(figure, left=left, top=top, width=side, height=side)
        axes.imshow(values, aspect="auto", **scale)
        axes.set(xticks=[], yticks=[])
    return figure


@matplotlib.rc_context(STYLE)
def feature_space(
    features: Float[np.ndarray, "n features"],
    labels: Integer[np.ndarray, " n"],
    wrong: Bool[np.ndarray, " n"],
    *,
    run: str,
    subject: str,
) -> Figure:
    """Draw images as dots on the first two principal components of their features.

    Args:
        features: of the images.
        labels: their digits, which are the colours.
        wrong: which images are misread; these have rings.
        run: for the title.
        subject: for the title.
    """
    points, shares = principal_components(features)
    figure = new_figure(_TOP + 5.0 + 0.6)
    title = f": the first {len(labels):,} {subject}"
    note = "colours and numbers are the true digits; ringed images are misread"
    place_title(figure, left=0.65, run=run, title=title, note=note)
    axes = place_axes(figure, left=0.65, top=_TOP, width=7.2, height=5.0)
    colors = colormaps["tab10"](np.asarray(labels) % 10)
    axes.scatter(*points.T, s=12, c=colors, linewidths=0)
    axes.scatter(
        *points[wrong].T, s=70, facecolors="none", edgecolors=INK, linewidths=1.1
    )
    box = {"boxstyle": "circle,pad=0.25", "facecolor": "white", "linewidth": 0.8}
    for digit in np.unique(labels):
        x, y = np.median(points[labels == digit], axis=0)
        color = colormaps["tab10"](int(digit) % 10)
        style = {"ha": "center", "va": "center", "size": 12, "color": INK}
        axes.text(x, y, str(digit), bbox=box | {"edgecolor": color}, **style)
    for set_label, which, share in (
        (axes.set_xlabel, "first", shares[0]),
        (axes.set_ylabel, "second", shares[1]),
    ):
        set_label(f"{which} component, {100 * share:.0f} % of the variance")
    axes.grid(True)
    axes.set_axisbelow(True)
    axes.tick_params(length=0)
    return figure


def _framed(name: str) -> Colormap:
    """Return a colour map that draws NaNs as the frames of tiles."""
    return colormaps[name].with_extremes(bad=HAIRLINE)


def _sheet(
    tiles: Float[np.ndarray, "n h w"], rows: int, columns: int
) -> Float[np.ndarray, "height width"]:
    """Arrange tiles row by row, with gaps of NaN, which `_framed` colours.

    Tiles are enlarged to about 28 pixels, so that the gaps of all sheets look alike.
    """
    count, height, width = tiles.shape
    scale = max(1, 28 // width)
    tiles = tiles.repeat(scale, axis=1).repeat(scale, axis=2)
    full = np.full((rows * columns, *tiles.shape[1:]), np.nan)
    full[:count] = tiles
    padded = np.pad(full, ((0, 0), (1, 1), (1, 1)), constant_values=np.nan)
    _, height, width = padded.shape
    grid = padded.reshape(rows, columns, height, width)
    return grid.swapaxes(1, 2).reshape(rows * height, columns * width)
