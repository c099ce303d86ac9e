"""Photographs of handwriting: digits found, prepared as MNIST's images were, and read.

A picture becomes a map of ink (`ink`), without what is around the paper (`sheet`), with
the light evened out and the lines of the paper taken away (`ruling`); the ink is
divided into digits (`finding`); each is brought to MNIST's size and place
(`data.centering`) and classified (`reading`).
"""

from mnist_jax.data.raster import PhotoError
from mnist_jax.photos.finding import Box, Digit, find_digits, read_prepared
from mnist_jax.photos.reading import Reading, classify, read

__all__ = [
    "Box",
    "Digit",
    "PhotoError",
    "Reading",
    "classify",
    "find_digits",
    "read",
    "read_prepared",
]
