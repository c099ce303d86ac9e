"""Figures of what a network computes inside; see `mnist_jax.report.figures`."""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
from jaxtyping import Bool, Float, Float32, Integer, UInt8
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mnist_jax.report.figures import show
from mnist_jax.report.network import Saliency, principal_components
from mnist_jax.report.style import (
    INK,
    STYLE,
    About,
    drawable,
    set_title,
    subplots,
)

MAPS_SHOWN = 16  # of a layer, in a row
_LAYERS_SHOWN, _KERNELS_SHOWN = 20, 64


@matplotlib.rc_context(STYLE)
def kernels(values: Float32[np.ndarray, "h w n"], about: About) -> Figure:
    """Draw kernels side by side; red is positive, blue negative, white is zero."""
    height, width, count = values.shape
    tiles = np.moveaxis(values[..., :_KERNELS_SHOWN], 2, 0)
    rows = np.array_split(tiles, -(-len(tiles) // MAPS_SHOWN))
    limit = float(np.abs(values).max()) or 1.0
    size = 0.7 + 0.55 * len(rows) * height / width
    figure, axes = subplots(len(rows), 1, size)
    for place, row in zip(axes[:, 0], rows, strict=True):
        _show_tiles(place, row, cmap="RdBu_r", vmin=-limit, vmax=limit)
    first = f"the first {len(tiles)} of " if len(tiles) < count else ""
    set_title(
        figure,
        about.run,
        f"{first}the {count} kernels of the first convolution",
        f"red is positive, blue negative; the largest weight is {limit:.2g}",
    )
    return figure


@matplotlib.rc_context(STYLE)
def feature_maps(
    maps: Mapping[str, Float32[np.ndarray, "_ _ _"]], about: About
) -> Figure:
    """Draw the first maps of each layer, one layer in a row.

    Of a very deep network, layers at equal distances are drawn.
    """
    chosen = np.linspace(0, len(maps) - 1, min(len(maps), _LAYERS_SHOWN)).round()
    names = [list(maps)[int(place)] for place in chosen]
    figure, axes = subplots(len(names), 1, 0.7 + 0.55 * len(names))
    for place, name in zip(axes[:, 0], names, strict=True):
        height, width, count = maps[name].shape
        tiles = np.moveaxis(maps[name][..., :MAPS_SHOWN], 2, 0)
        _show_tiles(place, tiles, cmap="gray_r")
        label = f"{drawable(name, 24)}\n{height} x {width} x {count}"
        place.set_ylabel(label, rotation=0, ha="right", va="center", fontsize=7.5)
    set_title(
        figure,
        about.run,
        f"feature maps of the first of the {about.subject}",
        f"at most {MAPS_SHOWN} of each layer; the darker, the higher",
    )
    return figure


@matplotlib.rc_context(STYLE)
def saliency(
    image: UInt8[np.ndarray, "h w c"],
    found: Sequence[Saliency],
    index: int,
    label: int,
    about: About,
) -> Figure:
    """Draw an image, and beside it the attributions of some of its logits.

    All attributions have the same scale.
    """
    figure, axes = subplots(1, 1 + len(found), 3.4)
    show(axes[0, 0], image)
    axes[0, 0].set_title("the image", loc="left", fontsize=9)
    limit = max(float(np.abs(one.attributions).max()) for one in found) or 1.0
    for place, one in zip(axes[0, 1:], found, strict=True):
        place.imshow(one.attributions, cmap="RdBu_r", vmin=-limit, vmax=limit)
        place.set(xticks=[], yticks=[])
        place.set_title(
            f"for the logit of {drawable(about.classes[one.label], 16)}:\n"
            f"{one.difference:+.2f} above an empty image,\n"
            f"attributions sum to {one.attributions.sum():+.2f}",
            loc="left",
            fontsize=8.5,
        )
    title = f"image #{index} of the {about.subject}, labelled {about.classes[label]}"
    set_title(figure, about.run, title)
    return figure


@matplotlib.rc_context(STYLE)
def feature_space(
    features: Float[np.ndarray, "n features"],
    labels: Integer[np.ndarray, " n"],
    wrong: Bool[np.ndarray, " n"],
    about: About,
) -> Figure:
    """Draw images as dots on the first two principal components of their features.

    Args:
        features: of the images.
        labels: their classes, which are the colours.
        wrong: which images are misread; these have rings.
        about: the images.
    """
    points, shares = principal_components(features)
    figure, ((axes,),) = subplots(1, 1, 6.0)
    few = len(about.classes) <= 10
    steps = (
        np.arange(len(about.classes)) if few else np.linspace(0, 1, len(about.classes))
    )
    colors = colormaps["tab10" if few else "turbo"](steps)
    axes.scatter(*points.T, s=12, c=colors[labels], linewidths=0)
    rings = {"facecolors": "none", "edgecolors": INK, "linewidths": 1.1}
    axes.scatter(*points[wrong].T, s=70, **rings)
    box = {"boxstyle": "round", "facecolor": "white", "linewidth": 0.8, "alpha": 0.8}
    for label in np.unique(labels):
        x, y = np.median(points[labels == label], axis=0)
        axes.text(
            x,
            y,
            drawable(about.classes[int(label)], 12),
            ha="center",
            va="center",
            size=11 if few else 7,
            bbox=box | {"edgecolor": colors[label]},
        )
    axes.set_xlabel(f"first component, {100 * shares[0]:.0f} % of the variance")
    axes.set_ylabel(f"second component, {100 * shares[1]:.0f} % of the variance")
    axes.grid(True)
    axes.set_axisbelow(True)
    axes.tick_params(length=0)
    set_title(
        figure,
        about.run,
        f"the first {len(labels):,} {about.subject}",
        "colours and names are the true classes; ringed images are misread",
    )
    return figure


def _show_tiles(
    axes: Axes, tiles: Float[np.ndarray, "n h w"], *, cmap: str, **scale: Any
) -> None:
    """Show tiles in a row that has space for `MAPS_SHOWN`, with lines between them."""
    count, height, width = tiles.shape
    sheet = np.concatenate(tiles, axis=1)
    ratio = height / width
    axes.imshow(sheet, cmap=cmap, extent=(0, count, 0, ratio), **scale)
    axes.set(xlim=(0, MAPS_SHOWN), ylim=(0, ratio), xticks=[], yticks=[], anchor="W")
    axes.vlines(range(count + 1), 0, ratio, color="white", linewidth=4)
    axes.spines[:].set_visible(False)
