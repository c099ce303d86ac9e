"""Graded damage to test images: six kinds, five amounts each.

What an image becomes depends on the kind, the amount, the seed and the image's place in
the set, not on how many others there are. With a larger amount, the same draw is taken
further: an image turns the same way, only more.

The names follow Mu, Gilmer, "MNIST-C: a robustness benchmark for computer vision",
2019 (https://arxiv.org/abs/1906.02337); the images are not theirs.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from jaxtyping import Float32, Float64, UInt8
from scipy import ndimage

Images = UInt8[np.ndarray, "n 28 28 1"]
Ink = Float32[np.ndarray, "n 28 28"]
Each = float | Float64[np.ndarray, " n"]
# NumPy promises that its numbers never change (NEP 19), unlike Generator's.
Random = np.random.RandomState


class Corruption(NamedTuple):
    """A kind of damage."""

    apply: Callable[[Ink, Random, float], Ink]
    """(ink in 0..1, random, amount) -> ink. An amount of 0 changes nothing."""
    amounts: tuple[float, ...]
    unit: str
    """Of the amounts."""


def corrupt(images: Images, kind: str, amount: float, *, seed: int = 0) -> Images:
    """Return copies of images with damage of a kind, a key of `CORRUPTIONS`."""
    ink = images[..., 0].astype(np.float32) / 255
    damaged = CORRUPTIONS[kind].apply(ink, Random([seed, *kind.encode()]), amount)
    return np.rint(255 * damaged.clip(0, 1)).astype(np.uint8)[..., None]


def warp(
    images: Ink,
    *,
    angle: Each = 0.0,
    row_shift: Each = 0.0,
    column_shift: Each = 0.0,
    zoom: Each = 1.0,
) -> Ink:
    """Turn, shift and zoom images about their middle, with background around.

    Args:
        images: ink in 0..1.
        angle: counterclockwise, in radians; one for all images or one for each.
        row_shift: upwards, in pixels.
        column_shift: to the left, in pixels.
        zoom: above 1, digits shrink.
    """
    centre = np.array(images.shape[1:]) / 2 - 0.5
    fields = (
        np.broadcast_to(field, len(images))
        for field in (angle, row_shift, column_shift, zoom)
    )
    warped = []
    for image, turn, up, left, scale in zip(images, *fields, strict=True):
        cos, sin = scale * np.cos(turn), scale * np.sin(turn)
        matrix = np.array([[cos, sin], [-sin, cos]])
        offset = centre - matrix @ centre + (up, left)
        options = {"order": 1, "mode": "grid-constant"}
        warped.append(ndimage.affine_transform(image, matrix, offset, **options))
    return np.stack(warped)


def _sign(images: Ink, random: Random) -> Float64[np.ndarray, " n"]:
    return random.choice([-1.0, 1.0], size=len(images))


def _rotate(images: Ink, random: Random, amount: float) -> Ink:
    return warp(images, angle=np.radians(amount) * _sign(images, random))


def _shift(images: Ink, random: Random, amount: float) -> Ink:
    direction = random.uniform(0, 2 * np.pi, size=len(images))
    rows, columns = amount * np.sin(direction), amount * np.cos(direction)
    return warp(images, row_shift=rows, column_shift=columns)


def _scale(images: Ink, random: Random, amount: float) -> Ink:
    return warp(images, zoom=(1 + amount) ** _sign(images, random))


def _add_noise(images: Ink, random: Random, amount: float) -> Ink:
    return images + np.float32(amount) * random.standard_normal(images.shape)


def _blur(images: Ink, random: Random, amount: float) -> Ink:
    return ndimage.gaussian_filter(images, (0, amount, amount), mode="constant")


def _hide(images: Ink, random: Random, amount: float) -> Ink:
    size, side = images.shape[1], int(amount)
    draws = random.uniform(size=(len(images), 2))
    corners = np.floor(draws * (size - side + 1)).astype(int)
    offsets = np.arange(size) - corners[..., None]  # [n, 2, size]
    inside = (offsets >= 0) & (offsets < side)
    hidden = inside[:, 0, :, None] & inside[:, 1, None, :]
    return np.where(hidden, np.float32(0), images)


CORRUPTIONS = {
    "rotation": Corruption(_rotate, (10, 20, 30, 40, 50), "degrees to either side"),
    "shift": Corruption(_shift, (1, 2, 3, 4, 5), "pixels in any direction"),
    "scale": Corruption(
        _scale, (0.15, 0.3, 0.45, 0.6, 0.75), "share by which digits grow or shrink"
    ),
    "noise": Corruption(
        _add_noise, (0.1, 0.2, 0.3, 0.4, 0.5), "standard deviation (full ink is 1)"
    ),
    "blur": Corruption(_blur, (0.5, 1, 1.5, 2, 2.5), "standard deviation in pixels"),
    "occlusion": Corruption(
        _hide, (4, 6, 8, 10, 12), "side of a blank square in pixels"
    ),
}
