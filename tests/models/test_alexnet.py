"""The published AlexNet and PyTorch's, whose features of an image are in a file."""

import json
from pathlib import Path

import jax.numpy as jnp
import numpy as np
from safetensors.numpy import save_file

from mnist_jax import models, pretrained
from mnist_jax.config import Model
from mnist_jax.data import DIGITS

FEATURES = json.loads(Path(__file__).with_name("torch_alexnet.json").read_text())
# By torchvision's names, [channels out, channels in, height, width].
KERNELS = {
    "features.0": (64, 3, 11, 11),
    "features.3": (192, 64, 5, 5),
    "features.6": (384, 192, 3, 3),
    "features.8": (256, 384, 3, 3),
    "features.10": (256, 256, 3, 3),
}


def test_features_are_pytorch_s_with_the_same_file_of_weights(tmp_path):
    """The same, too, are the enlargement of the image and its statistics."""
    rng, tensors = np.random.RandomState(0), {}  # whose numbers never change
    for name, shape in KERNELS.items():
        kernel = rng.standard_normal(shape) * np.sqrt(2 / np.prod(shape[1:]))
        tensors[f"{name}.weight"] = kernel.astype(np.float32)
        bias = 0.1 * rng.standard_normal(shape[0])
        tensors[f"{name}.bias"] = bias.astype(np.float32)
    image = rng.uniform(0, 1, (1, 7, 7, 1)).repeat(4, axis=1).repeat(4, axis=2)
    tensors["classifier.6.bias"] = np.zeros(1000, np.float32)
    save_file(tensors, tmp_path / "alexnet.safetensors")
    given = Model(
        "alexnet_owt",
        pretrained=str(tmp_path / "alexnet.safetensors"),
        pretrained_layers=("conv",),
    )
    model = models.create(given, DIGITS)
    weights = pretrained.load(given, model)
    assert weights is not None and len(weights.arrays) == 10
    params = {
        layer: {x: jnp.asarray(weights.arrays[f"{layer}/{x}"]) for x in variables}
        for layer, variables in model.shapes[0].items()
        if layer.startswith("conv")
    }
    found = model.run_until(5, params, {}, jnp.asarray(image, jnp.float32))
    np.testing.assert_allclose(np.ravel(found), FEATURES["features"], atol=1e-4)
