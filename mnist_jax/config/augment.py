"""The section `augment` of a config."""

from dataclasses import dataclass
from typing import Literal

from mnist_jax.config.fields import BELOW_ONE, SHARE, option

_Stroke = tuple[int, float, float, float, float, float, float]


@dataclass(frozen=True)
class Augment:
    """Random changes of the training images, new in each step. 0: off."""

    name: Literal["standard"] = option(
        "standard",
        'The fields below, or "my_augmentation:create": see docs/extending.md.',
        importable=True,
    )
    rotation: float = option(
        0.0, "Largest angle, in degrees, to either side.", at_least=0, at_most=180
    )
    zoom: float = option(
        0.0,
        "Rows and columns are scaled independently, by 1 - zoom to 1 + zoom.",
        **BELOW_ONE,
    )
    shift: float = option(
        0.0,
        "Largest shift, as a share of the height and of the width, to either side.",
        **BELOW_ONE,
    )
    shear: float = option(
        0.0, "Largest angle, in degrees, to either side.", at_least=0, below=90
    )
    centre: Literal["image", "report"] = option(
        "image",
        'Fixed point of the warp: the middle of the image, or "report": one pixel '
        "further down and right, as in the report's version of Keras.",
    )
    elastic: float = option(
        0.0, "Elastic deformation: SD of the displacements, in pixels.", at_least=0
    )
    elastic_smoothness: float = option(
        4.0, "Width of the Gaussian that smooths the displacements, in pixels.", above=0
    )
    flip: float = option(
        0.0,
        "Probability that an image is mirrored, left to right: for clothes, for "
        "example, but not for digits.",
        **SHARE,
    )
    thickness: float = option(
        0.0,
        "Strokes get thicker or thinner: the largest share of a grey dilation or "
        "erosion, by 3x3 pixels, that is mixed into an image.",
        **SHARE,
    )
    blur: float = option(
        0.0, "Largest standard deviation of a Gaussian, in pixels.", at_least=0
    )
    contrast: float = option(
        0.0, "Images are multiplied by 1 - contrast to 1 + contrast.", **BELOW_ONE
    )
    strokes: tuple[_Stroke, ...] = option(
        (),
        "Strokes to draw into images of a class, such as the bar of a 7: the number of "
        "the class, a probability, the height where the stroke begins (0: top, 1: foot "
        "of the digit), and how far down and right of the ink there its two ends are, "
        "as shares of the digit's height.",
    )
    erasing: float = option(
        0.0, "Probability that a rectangle of an image is filled with noise.", **SHARE
    )
    erasing_area: tuple[float, float] = option(
        (0.02, 0.2),
        "Smallest and largest share of the image that it covers.",
    )
    fade: float = option(
        0.0,
        "Share of each phase, at its end, over which all changes, and the "
        "probabilities of mirroring and erasing, shrink linearly to 0.",
        **SHARE,
    )
