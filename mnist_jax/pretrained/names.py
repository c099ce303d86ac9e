"""What VGG's tensors are called elsewhere, and how they lie there.

Our own names and layout are Keras's: `block1_conv1/kernel`, height width in out.
"""

import re
from collections.abc import Iterator, Mapping

import numpy as np

# The classifier of 1,000 classes, for which there is no use here.
_CLASSIFIER = re.compile(
    r"classifier\.|pre_logits\.|head\.|fc1/|fc2/|predictions/|dense(_\d+)?/"
)
_TORCH = re.compile(r"features\.\d+\.(weight|bias)")
_NUMBERED = re.compile(r"conv2d(?:_(\d+))?/(kernel|bias)")


def to_ours(
    tensors: Mapping[str, np.ndarray], layers: tuple[tuple[str, ...], ...]
) -> dict[str, np.ndarray]:
    """Rename, and turn round, the tensors of a file of VGG weights.

    Args:
        tensors: by whatever names the file has; those that nobody knows stay.
        layers: of the network, the convolutions of each block.

    Returns:
        The tensors by our names, those of the classifier left out.
    """
    torch, numbered = dict(_torch_layers(layers)), dict(_numbered_layers(layers))
    ours = {}
    for name, tensor in tensors.items():
        if match := _TORCH.fullmatch(name):
            layer = torch.get(name.rsplit(".", 1)[0], name)
            if match[1] == "weight" and tensor.ndim == 4:
                ours[f"{layer}/kernel"] = tensor.transpose(2, 3, 1, 0)  # from OIHW
            else:
                ours[f"{layer}/{match[1]}"] = tensor
        elif match := _NUMBERED.fullmatch(name):
            layer = numbered.get(name.split("/")[0], name.split("/")[0])
            ours[f"{layer}/{match[2]}"] = tensor
        elif not _CLASSIFIER.match(name):
            ours[name] = tensor
    return ours


def is_torch(tensors: Mapping[str, np.ndarray]) -> bool:
    """Say whether these are names as torchvision gives them."""
    return any(_TORCH.fullmatch(name) for name in tensors)


def _torch_layers(layers: tuple[tuple[str, ...], ...]) -> Iterator[tuple[str, str]]:
    """Pair torchvision's names, which count ReLUs and pools too, with ours."""
    position = 0
    for block in layers:
        for layer in block:
            yield f"features.{position}", layer
            position += 2  # the convolution and its ReLU
        position += 1  # the pool


def _numbered_layers(layers: tuple[tuple[str, ...], ...]) -> Iterator[tuple[str, str]]:
    """Pair the names of those versions of Keras 3 that only count with ours."""
    for index, layer in enumerate(layer for block in layers for layer in block):
        yield (f"conv2d_{index}" if index else "conv2d"), layer
