"""Inside a trained network: kernels, feature maps, features, saliency.

Importing this module loads JAX. All is computed on one device, since only the first of
several processes writes a report.
"""

from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Array, Float, Float32, UInt8

from mnist_jax.runs.load import Run
from mnist_jax.tree import Tree, layers

TOLERANCE = 0.01
"""By how much attributions may miss the difference of the logits, as a share of the
largest difference of any logit."""
# Points in one call, and the numbers of equal parts that the path is divided into, one
# after the other, until the tolerance is met: saturated networks need the last.
_POINTS, _PARTS = 64, (1, 4, 16)
_BATCH_SIZE = 100


class Saliency(NamedTuple):
    """The integrated gradients of one logit with respect to the pixels of an image."""

    label: int
    """The class of the logit."""
    attributions: Float32[np.ndarray, "h w"]
    """Summed over the channels."""
    difference: float
    """The logit of the image minus that of the empty image."""


class Inside(NamedTuple):
    """The values inside a network; None or empty where the network lacks something."""

    kernels: Float32[np.ndarray, "h w kernels"] | None
    """Of the first convolution, summed over its input channels."""
    feature_maps: dict[str, Float32[np.ndarray, "_ _ _"]]
    """Outputs of the convolutions for the first image, by layer, from the input on."""
    features: Float32[np.ndarray, "n features"] | None
    """Penultimate activations of all images."""


def look_inside(run: Run, images: UInt8[np.ndarray, "n h w c"]) -> Inside:
    """Compute the feature maps of the first image, and the features of all.

    Args:
        run: the trained network.
        images: at least one.
    """
    model, names = run.model, []

    @jax.jit
    def maps_of(params: Tree, batch_stats: Tree, image: Array) -> list[Array]:
        maps = model.feature_maps(params, batch_stats, image / 255)
        names[:] = maps  # jit sorts the keys of dictionaries
        return [values[0] for values in maps.values()]

    @jax.jit
    def features_of(params: Tree, batch_stats: Tree, images: Array) -> Array | None:
        return model.features(params, batch_stats, images / 255)

    def observe(function: Any, images: np.ndarray) -> Any:
        found = function(run.params, run.batch_stats, images.astype(np.float32))
        return jax.tree.map(lambda array: np.asarray(array, np.float32), found)

    maps = observe(maps_of, images[:1])
    batches = [
        observe(features_of, images[start : start + _BATCH_SIZE])
        for start in range(0, len(images), _BATCH_SIZE)
    ]
    kernels = None
    if names:
        kernels = layers(run.params).get(names[0], {}).get("kernel")
    if kernels is not None and kernels.ndim == 4:
        kernels = np.asarray(kernels, np.float32).sum(axis=2)
    else:
        kernels = None
    features = None
    if batches[0] is not None:
        features = np.concatenate(batches).reshape(len(images), -1)
    return Inside(kernels, dict(zip(names, maps, strict=True)), features)


def integrated_gradients(
    run: Run, image: UInt8[np.ndarray, "h w c"], labels: list[int]
) -> list[Saliency]:
    """Attribute the logits of some classes to the pixels of an image.

    The path leads from the empty image straight to this one. The integral is computed
    by Gauss's rule, on up to 16 x 64 points, so that the attributions sum to the
    difference between the logits at its ends to within `TOLERANCE`.

    Sundararajan, Taly, Yan: "Axiomatic attribution for deep networks", 2017,
    https://arxiv.org/abs/1703.01365.
    """
    inked = image.astype(np.float32) / 255

    @jax.jit
    def logits_at(params: Tree, batch_stats: Tree, path: Array) -> Array:
        outputs, _ = run.model.apply(params, batch_stats, path, train=False)
        return outputs.logits

    @jax.jit
    def integrate(
        params: Tree, batch_stats: Tree, path: Array, weights: Array, chosen: Array
    ) -> Array:
        def score(path: Array) -> Array:
            return weights @ (logits_at(params, batch_stats, path) @ chosen)

        return jax.grad(score)(path).sum(axis=0)

    ends = np.stack([np.zeros_like(inked), inked])
    empty, full = np.asarray(logits_at(run.params, run.batch_stats, ends))
    differences = full - empty
    allowed = TOLERANCE * np.abs(differences).max()
    nodes, weights = np.polynomial.legendre.leggauss(_POINTS)
    found = []
    for label in labels:
        chosen = np.eye(len(full), dtype=np.float32)[label]
        attributions = np.zeros(inked.shape[:2], np.float32)
        for parts in _PARTS:
            gradient = np.zeros_like(inked)
            for part in range(parts):
                at = ((part + (nodes + 1) / 2) / parts).astype(np.float32)
                gradient += integrate(
                    run.params,
                    run.batch_stats,
                    at[:, None, None, None] * inked,
                    (weights / 2 / parts).astype(np.float32),
                    chosen,
                )
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
    least = [(0, max(0, 2 - size)) for size in rows.shape]
    centred = np.pad(rows - rows.mean(axis=0), least)
    left, scales, _ = np.linalg.svd(centred, full_matrices=False)
    variances = scales**2
    total = variances.sum()
    points = (left[:, :2] * scales[:2])[: len(rows)]
    return points, variances[:2] / (total if total > 0 else 1)
