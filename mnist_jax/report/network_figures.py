"""Figures of what a network computes inside; see `mnist_jax.report.figures`."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from jaxtyping import Bool, Float, Float32, UInt8
from matplotlib import colormaps
from matplotlib.figure import Figure

from mnist_jax.evaluation import Labels, Logits, most_confident_mistakes
from mnist_jax.report import network
from mnist_jax.report.figures import SAMPLES_PER_ROW, Images, show, show_rows
from mnist_jax.report.network import Drawn, Saliency
from mnist_jax.report.style import INK, STYLE, About, drawable, set_title, subplots
from mnist_jax.runs import load

PER_ROW, ROWS_SHOWN, LAYERS_SHOWN = 16, 20, 12
IMAGES_MAPPED = 500
"""Images on the map of features at most: VGG16 computes some 50 a second on a CPU."""


def draw(
    folder: Path, images: Images, labels: Labels, logits: Logits, about: About
) -> dict[str, Figure]:
    """Draw what the network of a run computes inside, by the name of the figure."""
    loaded = load.load(folder)
    some = slice(IMAGES_MAPPED)
    inside = network.look_inside(loaded, images[some])
    mistakes = most_confident_mistakes(logits, labels).indices
    index = int(mistakes[0]) if len(mistakes) else 0
    # The prediction, and the true class or, if that was predicted, the runner-up.
    first, second = logits[index].argsort()[:-3:-1].tolist()
    label = int(labels[index])
    pair = [first, label if label != first else second]
    found = network.integrated_gradients(loaded, images[index], pair)
    drawn = {"saliency": saliency(images[index], found, index, label, about)}
    if inside.kernels is not None:
        drawn["kernels"] = kernels(inside.kernels, about)
    if inside.feature_maps:
        drawn["feature_maps"] = feature_maps(inside.feature_maps, about)
    if inside.features is not None:
        wrong = (logits.argmax(axis=1) != labels)[some]
        drawn["feature_space"] = feature_space(
            inside.features, labels[some], wrong, about
        )
    misread = mistakes[:SAMPLES_PER_ROW]
    chosen = np.concatenate([np.arange(min(SAMPLES_PER_ROW, len(images))), misread])
    if redrawn := network.redraw(loaded, images[chosen], labels[chosen]):
        drawn["reconstructions"] = reconstructions(
            images[chosen], redrawn, len(misread), about
        )
        if redrawn.varied is not None:
            drawn["capsules"] = capsules(redrawn.varied, about)
    return drawn


@matplotlib.rc_context(STYLE)
def kernels(values: Float32[np.ndarray, "h w n"], about: About) -> Figure:
    """Draw kernels side by side; red is positive, blue negative, white is zero."""
    count, limit = values.shape[-1], float(np.abs(values).max()) or 1.0
    starts = range(0, min(count, PER_ROW * ROWS_SHOWN), PER_ROW)
    rows = [("", values[..., start : start + PER_ROW]) for start in starts]
    figure = _draw_rows(rows, cmap="RdBu_r", vmin=-limit, vmax=limit)
    note = f"red is positive, blue negative; the largest weight is {limit:.2g}"
    set_title(figure, about.run, f"the {count} kernels of the first convolution", note)
    return figure


@matplotlib.rc_context(STYLE)
def feature_maps(
    maps: Mapping[str, Float32[np.ndarray, "_ _ _"]], about: About
) -> Figure:
    """Draw the first maps of each layer, one layer in a row.

    Of a deep network, layers at equal distances are drawn, the first and last included.
    """
    names = list(maps)
    places = np.linspace(0, len(names) - 1, min(len(names), LAYERS_SHOWN)).astype(int)
    rows = []
    for name in (names[place] for place in places):
        height, width, count = maps[name].shape
        label = f"{drawable(name, 24)}\n{height} x {width} x {count}"
        rows.append((label, maps[name][..., :PER_ROW]))
    figure = _draw_rows(rows)
    note = f"at most {PER_ROW} of each layer; the darker, the higher"
    if len(names) > len(rows):
        note = f"{len(rows)} of {len(names)} layers, evenly spread; {note}"
    set_title(
        figure, about.run, f"feature maps of the first of the {about.subject}", note
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
    limit = max(float(np.abs(one.attributions).max()) for one in found) or 1.0
    for place, one in zip(axes[0, 1:], found, strict=True):
        place.imshow(one.attributions, cmap="RdBu_r", vmin=-limit, vmax=limit)
        place.set(xticks=[], yticks=[])
        name, total = about.name(one.label, 16), one.attributions.sum()
        text = f"for the logit of {name}:\n{one.difference:+.2f} above an empty image,"
        place.set_title(f"{text}\nattributions sum to {total:+.2f}", fontsize=8.5)
    title = f"image #{index} of the {about.subject}, labelled {about.classes[label]}"
    set_title(figure, about.run, title)
    return figure


@matplotlib.rc_context(STYLE)
def feature_space(
    features: Float[np.ndarray, "n features"],
    labels: Labels,
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
    points, shares = network.principal_components(features)
    figure, ((axes,),) = subplots(1, 1, 6.0)
    count = len(about.classes)
    few = count <= 10
    steps = np.arange(count) if few else np.linspace(0, 1, count)
    colors = colormaps["tab10" if few else "turbo"](steps)
    axes.scatter(*points.T, s=12, c=colors[labels], linewidths=0)
    rings = {"facecolors": "none", "edgecolors": INK, "linewidths": 1.1}
    axes.scatter(*points[wrong].T, s=70, **rings)
    style = {"ha": "center", "va": "center", "size": 11 if few else 7}
    for label in np.unique(labels):
        x, y = np.median(points[labels == label], axis=0)
        box = {"boxstyle": "round", "facecolor": "white", "edgecolor": colors[label]}
        axes.text(x, y, about.name(label, 12), bbox=box, **style)
    for which, share, axis in zip(
        ("first", "second"), shares, (axes.xaxis, axes.yaxis), strict=True
    ):
        axis.set_label_text(f"{which} component, {100 * share:.0f} % of the variance")
    axes.grid(True)
    axes.set_axisbelow(True)
    axes.tick_params(length=0)
    title = f"the first {len(labels):,} {about.subject}"
    note = "colours and names are the true classes; ringed images are misread"
    set_title(figure, about.run, title, note)
    return figure


@matplotlib.rc_context(STYLE)
def reconstructions(images: Images, drawn: Drawn, misread: int, about: About) -> Figure:
    """Draw images, and below them what the network draws; the last ones are misread."""
    first = len(images) - misread
    blocks = [{"image": images[:first], "reconstruction": drawn.predicted[:first]}]
    if misread:
        blocks.append(
            {"misread image": images[first:], "as predicted": drawn.predicted[first:]}
        )
        if drawn.labelled is not None:
            blocks[-1]["as labelled"] = drawn.labelled[first:]
    counts, shape = [len(block) for block in blocks], images.shape[1:]
    tall = 0.7 + 0.47 * sum(counts) * shape[0] / shape[1]
    figure, axes = subplots(len(blocks), 1, tall, height_ratios=counts)
    for place, block in zip(axes[:, 0], blocks, strict=True):
        sheet = np.zeros((len(block), SAMPLES_PER_ROW, *shape), np.uint8)
        for row, some in zip(sheet, block.values(), strict=True):
            row[: len(some)] = some
        show_rows(place, sheet, list(block))
    set_title(figure, about.run, f"{about.subject}, and their reconstructions")
    return figure


@matplotlib.rc_context(STYLE)
def capsules(
    varied: UInt8[np.ndarray, "images size offsets h w c"], about: About
) -> Figure:
    """Draw images with each number of the capsule changed, one number in a row."""
    images, size, offsets, height, width, _ = varied.shape
    rows = min(size, ROWS_SHOWN)
    tall = 0.9 + 7.2 / (images * offsets) * rows * height / width
    figure, axes = subplots(1, images, tall)
    for place, sheet in zip(axes[0], varied[:, :rows], strict=True):
        show_rows(place, sheet, [str(number) for number in range(1, rows + 1)])
        middles = (np.arange(offsets) + 0.5) * place.get_xlim()[1] / offsets
        ends = slice(None, None, offsets // 2)
        texts = [f"{offset:g}" for offset in network.OFFSETS[ends]]
        place.set_xticks(middles[ends], texts)
    title = f"the {size} numbers of a capsule, for the first of the {about.subject}"
    note = "each row adds to one number of the predicted class's capsule"
    set_title(figure, about.run, title, note)
    return figure


def _draw_rows(
    rows: Sequence[tuple[str, Float[np.ndarray, "h w n"]]], **image: Any
) -> Figure:
    """Draw rows of `PER_ROW` tiles at most, each with its label on the left."""
    ratio = max(tiles.shape[0] / tiles.shape[1] for _, tiles in rows)
    figure, axes = subplots(len(rows), 1, 0.7 + 0.55 * len(rows) * max(ratio, 0.8))
    for place, (label, tiles) in zip(axes[:, 0], rows, strict=True):
        height, width, count = tiles.shape
        sheet = tiles.transpose(0, 2, 1).reshape(height, count * width)
        top = height / width
        place.imshow(sheet, extent=(0, count, 0, top), **image)
        place.set(xlim=(0, PER_ROW), ylim=(0, top), xticks=[], yticks=[], anchor="W")
        place.vlines(range(count + 1), 0, top, color="white", linewidth=4)
        place.spines[:].set_visible(False)
        place.set_ylabel(label, rotation=0, ha="right", va="center", fontsize=7.5)
    return figure
