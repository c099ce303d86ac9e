"""A VGG with two blocks, and files of its weights."""

import json

import numpy as np

from mnist_jax import models
from mnist_jax.data import DIGITS
from mnist_jax.models.vgg import VGG16
from mnist_jax.runs import weights


class Small(VGG16):
    """VGG16 with two blocks, and a hundredth of the work."""

    blocks = (1, 1)


class Narrow(Small):
    """With few channels, too: where it is trained, stored and read."""

    channels = 8
    hidden = 32


VGG_METADATA = {
    "mnist_jax_network": "vgg16",
    "config": json.dumps(
        {"model": {"name": "vgg16", "input_size": 64, "preprocess": "torch"}}
    ),
    "accuracy": "0.5",
}


def write_vgg(path, metadata=VGG_METADATA, *, size=64):
    shapes = weights.shapes(
        models.Model("vgg16", Narrow(num_classes=10, input_size=size), DIGITS)
    )
    tensors = {name: np.ones(shape, np.float32) for name, shape in shapes.items()}
    weights.write(path, tensors, metadata)
    return tensors
