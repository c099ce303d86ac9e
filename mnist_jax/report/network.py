"""What a trained network computes inside: kernels, feature maps, features, saliency.

Importing this module loads JAX. All is computed on one device, since only the first of
several processes writes a report.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Float32, UInt8

from mnist_jax.runs.load import Run
from mnist_jax.typing import Tree

PATH_STEPS = 64
"""Points on the path of integrated gradients."""
_BATCH_SIZE = 100


class Saliency(NamedTuple):
    """The integrated gradients of one logit with respect to the pixels of an image."""

    digit: int
    """The class of the logit."""
    attributions: Float32[np.ndarray, "h w"]
    difference: float
    """The logit of the image minus that of the empty image."""


class Inside(NamedTuple):
    """What `look_inside` finds."""

    kernels: Float32[np.ndarray, "h w n"]
    """Of the first convolution, summed over its input channels."""
    feature_maps: dict[str, Float32[np.ndarray, "h w n"]]
    """Outputs of the convolutions for the first image, by layer, from the input on."""
    features: Float32[np.ndarray, "n features"]
    """Penultimate activations of all images."""


def look_inside(run: Run, images: UInt8[np.ndarray, "n h w 1"]) -> Inside:
    """Compute the feature maps of the first image, and the features of all.

    Args:
        run: the trained network.
        images: at least one.
    """
    model = run.model

    @jax.jit
    def observe(params: Tree, batch_stats: Tree, images: Array) -> tuple[Tree, Array]:
        scaled = images.astype(jnp.float32) / 255
        maps = model.feature_maps(params, batch_stats, scaled[:1])
        return maps, model.features(params, batch_stats, scaled)

    size, features, first = min(_BATCH_SIZE, len(images)), [], None
    for start in range(0, len(images), size):
        # The last batch ends with the last image, so that one program serves all.
        at = min(start, len(images) - size)
        maps, found = observe(run.params, run.batch_stats, images[at : at + size])
        features.append(np.asarray(found, np.float32)[start - at :])
        first = first or maps
    assert first is not None
    feature_maps = {name: np.asarray(m[0], np.float32) for name, m in first.items()}
    kernels = np.asarray(run.params[next(iter(first))]["kernel"], np.float32)
    return Inside(kernels.sum(axis=2), feature_maps, np.concatenate(features))


def integrated_gradients(
    run: Run, image: UInt8[np.ndarray, "h w 1"], digits: list[int]
) -> list[Saliency]:
    """Attribute the logits of some digits to the pixels of an image.

    The path leads from the empty image straight to this one; the integral is a sum over
    the midpoints of `PATH_STEPS` intervals. Attributions sum to the difference between
    the logits at the ends, to within 2 % of the largest difference in practice.

    Sundararajan, Taly, Yan: "Axiomatic attribution for deep networks", 2017,
    https://arxiv.org/abs/1703.01365.
    """

    @jax.jit
    def attribute(
        params: Tree, batch_stats: Tree, image: Array, chosen: Array
    ) -> tuple[Float[Array, "h w"], Array]:
        image = image.astype(jnp.float32) / 255
        middles = (jnp.arange(PATH_STEPS) + 0.5) / PATH_STEPS
        # The ends are in the batch for their logits only.
        shares = jnp.concatenate([middles, jnp.array([0.0, 1.0])])

        def scores(path: Array) -> tuple[Array, Array]:
            logits, _ = run.model.apply(params, batch_stats, path, train=False)
            chosen_logits = logits @ chosen
            return chosen_logits[:-2].sum(), chosen_logits[-1] - chosen_logits[-2]

        path = shares[:, None, None, None] * image[None]
        gradients, difference = jax.grad(scores, has_aux=True)(path)
        mean = gradients[:-2].mean(axis=0)
        return (image * mean).sum(axis=-1), difference

    found = []
    for digit in digits:
        chosen = np.eye(len(run.classes), dtype=np.float32)[digit]
        attributions, difference = attribute(run.params, run.batch_stats, image, chosen)
        found.append(Saliency(digit, np.asarray(attributions), float(difference)))
    return found


def principal_components(
    rows: Float[np.ndarray, "n features"],
) -> tuple[Float[np.ndarray, "n 2"], Float[np.ndarray, " 2"]]:
    """Return the first two principal components of each row, and their shares.

    The shares are those of the total variance, in 0..1. Equal to scikit-learn's PCA but
    for signs; importing that would take longer than the whole report.
    """
    centred = rows - rows.mean(axis=0)
    left, scales, _ = np.linalg.svd(centred, full_matrices=False)
    variances = scales**2
    total = variances.sum()
    return left[:, :2] * scales[:2], variances[:2] / (total if total > 0 else 1)
