"""Foreign names and layouts of the published networks' tensors.

Our own names are Keras's: `block1_conv1/kernel` [height, width, channels in, channels
out].
"""

import re
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import numpy as np

from mnist_jax.runs.weights import WeightsError

# The classifier of 1,000 classes, which is of no use here.
_CLASSIFIER = re.compile(r"classifier\.|(fc\d+|predictions|probs|dense_\d+)/")
# Modules that wrap a network: DataParallel's, torch.compile's, Lightning's.
_WRAPPERS = re.compile(r"^((module|_orig_mod|model)\.)+")
_TORCH = re.compile(r"features\.(\d+)\.(weight|bias)")
# The places of the convolutions among torchvision's `features`.
_TORCH_PLACES = {
    "alexnet_owt": (0, 3, 6, 8, 10),
    "vgg16": (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28),
}
# Keras names a layer after its class and the number of such layers before it in the
# session, which Keras 1 counted from 1. All layers of the file that Keras publishes for
# Xception have such names. With each class, an array that no other has, and its axes.
_KINDS = (
    ("conv(?:olution)?2d", "kernel", 4),
    ("dense", "kernel", 2),
    ("batch_?normalization", "mean", 1),
    ("separable_?conv(?:olution)?2d", "depthwise/kernel", 4),
)
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


def unwrap(tensors: Mapping[str, np.ndarray], path: Path) -> dict[str, np.ndarray]:
    """Remove the names of wrappers: `module.features.0.bias` is `features.0.bias`.

    Raises:
        WeightsError: two tensors would then have the same name.
    """
    inner = {_WRAPPERS.sub("", name): tensor for name, tensor in tensors.items()}
    if len(inner) < len(tensors):
        raise WeightsError(
            f"{path} has several tensors of the same name, apart from module., model. "
            "and _orig_mod. in front. Save the state_dict() of a single network."
        )
    return inner


def to_ours(
    tensors: Mapping[str, np.ndarray],
    *,
    network: str,
    layers: Sequence[str],
    known: Mapping[str, tuple[int, ...]],
) -> dict[str, np.ndarray]:
    """Rename the tensors of a file of weights, and transpose PyTorch's kernels.

    Args:
        tensors: by the names in the file; unknown names are kept.
        network: its name in the registry.
        layers: of the network or of its body, in the order in which Keras creates them.
        known: the shapes of the network's parameters and statistics, by name.

    Returns:
        The tensors by our names, without those of a classifier that `layers` lack.
    """
    renamed = _name_numbered(tensors, layers, known)
    places = dict(zip(map(str, _TORCH_PLACES.get(network, ())), layers, strict=False))
    ours = {}
    for name, tensor in tensors.items():
        layer, slash, variable = name.partition("/")
        if layer not in renamed and _CLASSIFIER.match(name):
            continue
        if (match := _TORCH.fullmatch(name)) and match[1] in places:
            layer, slash, variable = places[match[1]], "/", match[2]
            if variable == "weight" and tensor.ndim == 4:
                variable, tensor = "kernel", tensor.transpose(2, 3, 1, 0)  # from OIHW
        ours[renamed.get(layer, layer) + slash + variable] = tensor
    return ours


def _name_numbered(
    tensors: Collection[str],
    layers: Sequence[str],
    known: Mapping[str, tuple[int, ...]],
) -> dict[str, str]:
    """Map the numbered layers, in order, to ours that the file does not name."""
    ours = dict.fromkeys(re.sub("/(depthwise|pointwise)$", "", x) for x in layers)
    renamed = {}
    for kind, array, axes in _KINDS:
        end = f"/{array}"
        theirs = [x.removesuffix(end) for x in tensors if x.endswith(end)]
        matches = {x: re.fullmatch(rf"{kind}(?:_(\d+))?", x) for x in theirs}
        numbers = {x: int(m[1] or 0) for x, m in matches.items() if m}
        of_kind = [x for x in ours if len(known.get(x + end, ())) == axes]
        free = [x for x in of_kind if x in numbers or x not in theirs]
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
