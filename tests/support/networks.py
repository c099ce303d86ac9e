"""The networks that the laws of every network are tested on."""

from typing import Any

import pytest

from mnist_jax import models
from mnist_jax.models.imagenet import Published

# Without those of twenty million parameters, for which tests/models/test_published.py
# has laws of their own.
SMALL = sorted(
    name for name, module in models.MODELS.items() if not issubclass(module, Published)
)
# They take long to compile, and most of their layers are those of others.
DEEP = ("densenet", "inception", "resnet", "xception")
# `SMALL` as parameters of a test that only `make test-all` runs on the deep ones.
EACH: list[Any] = [
    pytest.param(name, marks=pytest.mark.exhaustive if name in DEEP else ())
    for name in SMALL
]
