"""Inside a trained network: kernels, feature maps, features, saliency.

Importing this module loads JAX. All is computed on one device, since only the first of
several processes writes a report.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Float32, UInt8

from mnist_jax.evaluation import Labels
from mnist_jax.runs.load import Network
from mnist_jax.tree import Tree, layers

Images = UInt8[np.ndarray, "n h w c"]

TOLERANCE = 0.01
"""By how much attributions may miss the difference of the logits, as a share of the
largest difference of any logit."""
# Points in one call, and the numbers of equal parts that the path is divided into, one
# after the other, until the tolerance is met: saturated networks need the last.
_POINTS, _PARTS = 64, (1, 4, 16)

OFFSETS = np.arange(-5, 6, dtype=np.float32) / 20
"""Added to the numbers of a capsule, as in figure 4 of Sabour, Frosst and Hinton."""
VARIED = 2
"""Images of which the numbers of a capsule are varied."""


class Saliency(NamedTuple):
    """The integrated gradients of the logit of a class."""

    label: int
    attributions: Float32[np.ndarray, "h w"]
    """Of the pixels, summed over the channels."""
    difference: float
    """The logit of the image minus that of the empty image."""


class Drawn(NamedTuple):
    """Images that a network draws from others; None where it cannot."""

    predicted: Images
    """As the classes that it predicts."""
    labelled: Images | None
    """As their true classes."""
    varied: UInt8[np.ndarray, "some size offsets h w c"] | None
    """The first images, with each number of the capsule changed by `OFFSETS`."""


class Inside(NamedTuple):
    """The values inside a network; None or empty where the network lacks something."""

    kernels: Float32[np.ndarray, "h w kernels"] | None
    """Of the first convolution, summed over its input channels."""
    feature_maps: dict[str, Float32[np.ndarray, "_ _ _"]]
    """Outputs of the convolutions for the first image, by layer, from the input on."""
    features: Float32[np.ndarray, "n features"] | None
    """Penultimate activations of all images."""


def look_inside(run: Network, images: Images) -> Inside:
    """Compute the feature maps of the first image, and the features of all."""
    model, variables = run.model, (run.params, run.batch_stats)
    scaled = jnp.asarray(images, jnp.float32) / 255
    names: list[str] = []  # in the order of the network, which jit does not keep

    @jax.jit
    def of_layers(variables: tuple[Tree, Tree], images: Array) -> list[Array]:
        found = model.feature_maps(*variables, images)
        names[:] = [name for name, values in found.items() if values.ndim == 4]
        return [found[name][0].astype(jnp.float32) for name in names]

    found = of_layers(variables, scaled[:1])
    maps = dict(zip(names, map(np.asarray, found), strict=True))
    first = layers(run.params).get(next(iter(maps), ""), {}).get("kernel")
    kernels = None
    if first is not None and first.ndim == 4:
        kernels = np.asarray(first, np.float32).sum(axis=2)
    features = jax.jit(model.features)(*variables, scaled)
    if features is not None:
        features = np.asarray(features, np.float32).reshape(len(images), -1)
    return Inside(kernels, maps, features)


def redraw(run: Network, images: Images, labels: Labels) -> Drawn | None:
    """Have a network draw images from its own outputs; None if it does not do that."""
    model, scaled = run.model, jnp.asarray(images, jnp.float32) / 255

    def to_uint8(drawn: Any) -> np.ndarray | None:
        if drawn is None:
            return None
        return np.round(255 * np.asarray(drawn)).astype(np.uint8)

    @jax.jit
    def draw(params: Tree, batch_stats: Tree) -> tuple[Any, Any, Any]:
        outputs, _ = model.apply(params, batch_stats, scaled, train=False)
        capsules = outputs.extra.get("capsules")
        if capsules is None:
            return outputs.extra.get("reconstruction"), None, None
        labelled = model.reconstruct(params, capsules, jnp.asarray(labels))
        # [some, size, offsets, classes, size]: all classes; but one is drawn.
        some, size = capsules[:VARIED], capsules.shape[-1]
        changes = jnp.eye(size)[:, None] * OFFSETS[None, :, None]
        many = some[:, None, None] + changes[None, :, :, None]
        predicted = outputs.logits[:VARIED].argmax(axis=-1)
        repeated = jnp.repeat(predicted, size * len(OFFSETS))
        varied = model.reconstruct(params, many.reshape(-1, *some.shape[1:]), repeated)
        if varied is not None:
            varied = varied.reshape(*many.shape[:3], *images.shape[1:])
        return outputs.extra.get("reconstruction"), labelled, varied

    predicted, labelled, varied = map(to_uint8, draw(run.params, run.batch_stats))
    if predicted is None or predicted.shape != images.shape:
        return None
    return Drawn(predicted, labelled, varied)


def integrated_gradients(
    run: Network, image: UInt8[np.ndarray, "h w c"], labels: list[int]
) -> list[Saliency]:
    """Attribute the logits of some classes to the pixels of an image.

    The path leads from the empty image straight to this one. The integral is computed
    by Gauss's rule, on up to 16 x 64 points, so that the attributions sum to the
    difference between the logits at its ends to within `TOLERANCE`.

    Sundararajan, Taly, Yan: "Axiomatic attribution for deep networks", 2017,
    https://arxiv.org/abs/1703.01365.
    """
    inked, variables = image.astype(np.float32) / 255, (run.params, run.batch_stats)

    @jax.jit
    def logits_at(path: Any, variables: tuple[Tree, Tree]) -> Array:
        params, batch_stats = variables
        return run.model.apply(params, batch_stats, path, train=False)[0].logits

    def score(path: Any, weights: Any, chosen: Any, variables: Any) -> Array:
        return weights @ (logits_at(path, variables) @ chosen)

    gradients = jax.jit(jax.grad(score))
    empty, full = np.asarray(logits_at(np.stack([0 * inked, inked]), variables))
    differences = full - empty
    allowed = TOLERANCE * np.abs(differences).max()
    nodes, weights = np.polynomial.legendre.leggauss(_POINTS)
    found = []
    for label in labels:
        chosen = np.eye(len(full), dtype=np.float32)[label]
        attributions = np.zeros(inked.shape[:2], np.float32)
        for parts in _PARTS:
            gradient = np.zeros_like(inked)
            share = (weights / 2 / parts).astype(np.float32)
            for part in range(parts):
                at = ((part + (nodes + 1) / 2) / parts).astype(np.float32)
                path = at[:, None, None, None] * inked
                gradient += np.sum(gradients(path, share, chosen, variables), axis=0)
            attributions = (inked * gradient).sum(axis=-1)
            if abs(attributions.sum() - differences[label]) <= allowed:
                break
        found.append(Saliency(label, attributions, float(differences[label])))
    return found


def principal_components(
    rows: Float[np.ndarray, "n features"],
) -> tuple[Float[np.ndarray, "n 2"], Float[np.ndarray, " 2"]]:
    """Return the first two principal components of each row, and their shares.

    The shares are those of the total variance, in 0..1. Equal to scikit-learn's PCA but
    for signs; importing that would take longer than the whole report. Components that
    do not exist, of a single row or column, are zero.
    """
    missing = [(0, max(0, 2 - size)) for size in rows.shape]
    centred = np.pad(rows - rows.mean(axis=0), missing)
    left, scales, _ = np.linalg.svd(centred, full_matrices=False)
    total = (scales**2).sum()
    points = (left[:, :2] * scales[:2])[: len(rows)]
    return points, scales[:2] ** 2 / (total if total > 0 else 1)
