"""Foreign names and layouts of the published networks' tensors.

Our own names are Keras's: `block1_conv1/kernel` [height, width, channels in, channels
out].
"""

import re
from collections.abc import Collection, Mapping, Sequence

import numpy as np

# The classifier of 1,000 classes, which is of no use here.
_CLASSIFIER = re.compile(r"classifier\.|(fc\d+|predictions|probs|dense_\d+)/")
_TORCH = re.compile(r"features\.(\d+)\.(weight|bias)")
# The places of the convolutions among torchvision's `features`.
_TORCH_PLACES = {
    "alexnet_owt": (0, 3, 6, 8, 10),
    "vgg16": (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28),
}
# A layer named after its class and the number of such layers before it in the session.
# Keras 1 counted from 1; all layers of the file that Keras publishes for Xception have
# such names.
_NUMBERED = re.compile(
    r"(?:(?:separable_?)?conv(?:olution)?2d|batch_?normalization)(?:_(\d+))?"
)
# An array that tells the kind of a layer.
_KINDS = ("kernel", "mean", "depthwise/kernel")
# What only the files of a network have, those of the networks above it aside.
_SIGNS = {
    "xception_v1": r"block2_sepconv1/|separable_?conv(olution)?2d",
    "inception_v3": r"conv2d_(9\d|\d{3})/",
    "densenet121": r"conv2_block1_0_bn/",
    "resnet50v2": r"conv2_block1_preact_bn/",
    "ResNet50, version 1": r"conv2_block1_3_bn/|res2a_branch2a/|layer1\.0\.",
    "VGG19": r"block[345]_conv4/|features\.34\.",
    "vgg16": r"block[345]_conv3/|features\.26\.",
    "alexnet_owt": r"features\.8\.",
}


def to_ours(
    tensors: Mapping[str, np.ndarray],
    *,
    network: str,
    layers: Sequence[str],
    known: Collection[str],
) -> dict[str, np.ndarray]:
    """Rename the tensors of a file of weights, and transpose PyTorch's kernels.

    Args:
        tensors: by the names in the file; unknown names are kept.
        network: its name in the registry.
        layers: of the network's body, in the order in which Keras creates them.
        known: the names of the network's parameters and statistics.

    Returns:
        The tensors by our names, without those of the classifier.
    """
    kept = {name: x for name, x in tensors.items() if not _CLASSIFIER.match(name)}
    renamed = _name_numbered(kept, layers, known)
    places = dict(zip(map(str, _TORCH_PLACES.get(network, ())), layers, strict=False))
    ours = {}
    for name, tensor in kept.items():
        if (match := _TORCH.fullmatch(name)) and match[1] in places:
            layer, variable = places[match[1]], match[2]
            if variable == "weight" and tensor.ndim == 4:
                variable, tensor = "kernel", tensor.transpose(2, 3, 1, 0)  # from OIHW
            name = f"{layer}/{variable}"
        layer, slash, variable = name.partition("/")
        ours[renamed.get(layer, layer) + slash + variable] = tensor
    return ours


def _name_numbered(
    names: Collection[str], layers: Sequence[str], known: Collection[str]
) -> dict[str, str]:
    """Map the numbered layers, in order, to ours that the file does not name."""
    ours = dict.fromkeys(re.sub("/(depthwise|pointwise)$", "", x) for x in layers)
    renamed = {}
    for kind in _KINDS:
        theirs = [x.removesuffix(f"/{kind}") for x in names if x.endswith(f"/{kind}")]
        numbers = {x: int(m[1] or 0) for x in theirs if (m := _NUMBERED.fullmatch(x))}
        named = set(theirs) - set(numbers)
        free = [x for x in ours if f"{x}/{kind}" in known and x not in named]
        first = min(numbers.values(), default=0)
        for layer, number in numbers.items():
            if number - first < len(free):
                renamed[layer] = free[number - first]
    return renamed


def is_torch(tensors: Collection[str]) -> bool:
    """Return whether the names are torchvision's."""
    return any(_TORCH.fullmatch(name) for name in tensors)


def recognize(tensors: Collection[str]) -> str | None:
    """Return the network whose names a file has, by its name in the registry if any."""
    for network, sign in _SIGNS.items():
        if any(re.match(sign, name) for name in tensors):
            return network
    return None
