"""Foreign names and layouts of VGG's tensors.

Our own are Keras's: `block1_conv1/kernel` [height, width, channels in, channels out].
"""

import re
from collections.abc import Mapping

import numpy as np

# The classifier of 1,000 classes, which is of no use here.
_CLASSIFIER = re.compile(r"classifier\.|fc1/|fc2/|predictions/")
_TORCH = re.compile(r"(features\.\d+)\.(weight|bias)")


def to_ours(
    tensors: Mapping[str, np.ndarray], blocks: tuple[tuple[str, ...], ...]
) -> dict[str, np.ndarray]:
    """Rename the tensors of a file of VGG weights, and transpose PyTorch's kernels.

    Args:
        tensors: by the names in the file; unknown names are kept.
        blocks: the names of the network's convolutions, block by block.

    Returns:
        The tensors by our names, without those of the classifier.
    """
    layers, position = {}, 0
    for block in blocks:
        for layer in block:
            layers[f"features.{position}"] = layer
            position += 2  # the convolution and its ReLU
        position += 1  # the pool
    ours = {}
    for name, tensor in tensors.items():
        if match := _TORCH.fullmatch(name):
            layer, variable = layers.get(match[1], match[1]), match[2]
            if variable == "weight" and tensor.ndim == 4:
                variable, tensor = "kernel", tensor.transpose(2, 3, 1, 0)  # from OIHW
            ours[f"{layer}/{variable}"] = tensor
        elif not _CLASSIFIER.match(name):
            ours[name] = tensor
    return ours


def is_torch(tensors: Mapping[str, np.ndarray]) -> bool:
    """Return whether the names are torchvision's."""
    return any(_TORCH.fullmatch(name) for name in tensors)
