"""Other pens and other hands: thickness, blur, contrast and added strokes.

All functions but `dilate` and `gaussian` take a single image and its key.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float32, Integer, PRNGKeyArray

from mnist_jax.config import Augment

Image = Float32[Array, "height width channels"]
Share = float | Float32[Array, ""]


def change_pen(
    key: PRNGKeyArray, config: Augment, image: Image, strength: Share = 1.0
) -> Image:
    """Make strokes thicker or thinner, blur them, and make them darker or fainter.

    In `config`, `thickness` and `contrast` are the largest changes to either side, and
    `blur` is the largest standard deviation. Each is drawn uniformly; `strength` scales
    all of them.
    """
    limits = strength * jnp.array([config.thickness, config.contrast, config.blur])
    thickness, contrast, blur = limits * jax.random.uniform(key, (3,), minval=-1)
    changed = jnp.where(thickness > 0, dilate(image), -dilate(-image))
    image += jnp.abs(thickness) * (changed - image)
    if config.blur:
        down, across = (gaussian(size, jnp.abs(blur)) for size in image.shape[:2])
        image = jnp.einsum("rh,hwc,kw->rkc", down, image, across)
    return jnp.clip((1 + contrast) * image, 0, 1)


def add_strokes(
    key: PRNGKeyArray,
    config: Augment,
    image: Image,
    label: Integer[Array, ""],
    strength: Share = 1.0,
) -> Image:
    """Draw the strokes in `config.strokes` that belong to a label, where there is ink.

    `strength` scales their probabilities. They are 1.5 to 3.5 pixels wide, and each
    coordinate of their ends is multiplied by a factor from 0.5 to 1.5.
    """
    height, width, _ = image.shape
    rows, columns = jnp.mgrid[:height, :width].astype(jnp.float32)
    ink = image.max(axis=-1)
    inked = ink.max(axis=1) > 0.5
    top, bottom = jnp.argmax(inked), height - 1 - jnp.argmax(inked[::-1])
    draws = jax.random.uniform(key, (len(config.strokes), 6))
    for (owner, share, place, *ends), draw in zip(config.strokes, draws, strict=True):
        middle = top + place * (bottom - top)
        near = ink * (jnp.abs(rows - middle) <= 1)
        centre = (near * columns).sum() / jnp.maximum(near.sum(), 1e-6)
        away = (bottom - top) * jnp.array(ends) * (0.5 + draw[2:])
        # The distance from the segment, which points along (down, right).
        row, column = rows - middle - away[0], columns - centre - away[1]
        down, right = away[2] - away[0], away[3] - away[1]
        length = jnp.maximum(down**2 + right**2, 1e-6)
        along = jnp.clip((row * down + column * right) / length, 0, 1)
        distance = jnp.hypot(row - along * down, column - along * right)
        stroke = jnp.clip(1.25 + draw[1] - distance, 0, 1)[..., None]
        is_drawn = inked.any() & (label == owner) & (draw[0] < strength * share)
        image = jnp.where(is_drawn, jnp.maximum(image, stroke), image)
    return image


def dilate(image: Image) -> Image:
    """Return the largest value among the 3x3 pixels around each pixel."""
    window, strides = (3, 3, 1), (1, 1, 1)
    return jax.lax.reduce_window(image, -jnp.inf, jax.lax.max, window, strides, "SAME")


def gaussian(size: int, deviation: Share) -> Float32[Array, "size size"]:
    """Return a Gaussian filter as a matrix; the sum of each of its rows is 1."""
    distances = jnp.arange(size)[:, None] - jnp.arange(size)[None, :]
    weights = jnp.exp(-((distances / jnp.maximum(deviation, 1e-3)) ** 2) / 2)
    return weights / weights.sum(axis=1, keepdims=True)
