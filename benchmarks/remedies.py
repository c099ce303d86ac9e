"""Ablations: optimizations for CPUs, each of which can be left out.

`mnist_jax:xla-pairs` is `mnist_jax:xla` without the remedy `pairs`; see throughput.py.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax

from mnist_jax.devices import compiler
from mnist_jax.models import double_cnn, fast_cnn, layers, operations, triple_cnn, vgg
from mnist_jax.training import loop


def _patches() -> None:
    def conv(images: jax.Array, kernel: jax.Array, padding: str) -> jax.Array:
        axes = ("NHWC", "HWIO", "NHWC")
        return lax.conv_general_dilated(
            images, kernel, (1, 1), padding, dimension_numbers=axes
        )

    operations._conv_by_patches = conv


def _pairs() -> None:
    def max_pool(x: jax.Array, size: int) -> jax.Array:
        window = (1, size, size, 1)
        return lax.reduce_window(x, -jnp.inf, lax.max, window, window, "VALID")

    for module in (double_cnn, fast_cnn, triple_cnn, vgg):
        module.max_pool = max_pool


def _pool() -> None:
    def max_pool(x: jax.Array, size: int) -> jax.Array:
        with operations.form("cpu"):
            return operations.max_pool(x, size)

    for module in (double_cnn, fast_cnn, triple_cnn, vgg):
        module.max_pool = max_pool


def _sums() -> None:
    operations.sum_places = lambda x: x.sum(axis=range(x.ndim - 1))


def _bytes() -> None:
    layers.draw_mask = jax.random.bernoulli


def _eigen() -> None:
    compiler._CPU_OPTIONS.clear()


def _scan() -> None:
    loop.default_steps_per_call = lambda backend, convolutions, steps: 1


REMEDIES: dict[str, Callable[[], None]] = {
    # One grey channel, and images smaller than the kernel, as patches times a matrix.
    "patches": _patches,
    # Max pools by pairs of rows and columns instead of XLA's reduce_window.
    "pairs": _pairs,
    # With oneDNN: its package's max pools instead of XLA's.
    "pool": _pool,
    # BatchNorm's sums as products with ones.
    "sums": _sums,
    # Dropout draws bytes instead of words.
    "bytes": _bytes,
    # Convolutions by Eigen instead of YNNPACK.
    "eigen": _eigen,
    # With oneDNN: dozens of steps in a call instead of one.
    "scan": _scan,
    # Freed memory is kept, and huge pages are used: both are settings of the process.
    "memory": lambda: None,
    "huge_pages": lambda: None,
}
