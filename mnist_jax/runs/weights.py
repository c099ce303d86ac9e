"""weights.safetensors: the parameters of a trained network.

A safetensors file whose tensors have the names of parameters (`block1_conv1/kernel`,
`block1_norm/mean`) and whose metadata, all text, has:

    mnist_jax_network  the network's name in the registry
    config             the experiment's config, as JSON
    classes            the class of each logit, as a JSON list
    image_shape        height, width and channels of an image, as a JSON list
    weights            "last" or "best": which weights of the run these are
    tested_on          "test" or "val"
    accuracy           of these weights on those images, in 0..1
    sha256             checksum of the tensors, by `mnist_jax.tree.digest`

Only the first is needed to start another run from the file, which may also have:

    preprocess         the `config.model.preprocess` that the weights were trained with
"""

import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
import safetensors
import safetensors.numpy

from mnist_jax import data, files, models, tree
from mnist_jax.errors import UserError
from mnist_jax.tree import Tree

NETWORK, CONFIG, PREPROCESS = "mnist_jax_network", "config", "preprocess"


# Raised by whatever is not as it should be in the metadata.
DAMAGE = (KeyError, TypeError, ValueError, ArithmeticError, RecursionError)


class WeightsError(UserError):
    """A file of weights cannot be read, or belongs to another network."""


def write(
    path: Path, tensors: Mapping[str, np.ndarray], metadata: Mapping[str, str]
) -> None:
    """Write named tensors and metadata atomically; the checksum is added."""
    contiguous = {name: np.ascontiguousarray(x) for name, x in tensors.items()}
    content = safetensors.numpy.save(
        contiguous, metadata={**metadata, "sha256": tree.digest(contiguous)}
    )
    with files.atomic_writer(path) as file:
        file.write(content)


def read(path: Path) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Read `(tensors, metadata)` of a safetensors file, or raise WeightsError."""
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}
    except OSError as error:
        # safetensors appends the path, and leaves `strerror` empty.
        reason = error.strerror or str(error).removesuffix(f": {path}")
        raise WeightsError(f"Cannot read {path}: {reason}.") from error
    except safetensors.SafetensorError as error:
        raise WeightsError(
            f"{path} is damaged, or not a safetensors file: {error}."
        ) from error
    except (AttributeError, TypeError) as error:  # such as float8 or bfloat16
        raise WeightsError(
            f"{path} has numbers of a type that NumPy lacks: {error}. Save the weights "
            "as float32."
        ) from error
    if "sha256" in metadata and metadata["sha256"] != tree.digest(tensors):
        raise WeightsError(
            f"{path} is damaged: its numbers do not match their checksum. Restore it "
            "from a copy."
        )
    return tensors, metadata


def model_config(metadata: Mapping[str, str], path: Path) -> dict[str, Any]:
    """Return the fields of `config.model` that the metadata of a file give, if any.

    Raises:
        WeightsError: the metadata are damaged.
    """
    try:
        stored = json.loads(metadata[CONFIG]) if CONFIG in metadata else None
        fields = dict(stored["model"]) if stored else {}
    except DAMAGE as error:
        raise WeightsError(f"{path} is damaged: {error!r} in its metadata.") from error
    for field, entry in (("name", NETWORK), ("preprocess", PREPROCESS)):
        if entry in metadata:
            fields[field] = metadata[entry]
    return fields


def task_of(metadata: Mapping[str, str]) -> data.Task:
    """Return the network's task; an error of `DAMAGE` if an entry is damaged."""
    classes = json.loads(metadata["classes"])
    shape = tuple(map(int, json.loads(metadata["image_shape"])))
    if len(shape) != 3 or not all(0 < side < 10_000 for side in shape) or not classes:
        raise ValueError(f"image_shape is {shape}, classes are {classes}")
    return data.Task(tuple(map(str, classes)), shape)


def named(params: Tree, batch_stats: Tree) -> dict[str, Any]:
    """Return all parameters and statistics by name."""
    return {
        tree.name_of(path): leaf
        for part in (params, batch_stats)
        for path, leaf in jax.tree_util.tree_leaves_with_path(part)
    }


def shapes(model: models.Model) -> dict[str, tuple[int, ...]]:
    """Return the shapes of all parameters and statistics by name."""
    return {name: leaf.shape for name, leaf in named(*model.shapes).items()}


def check(
    tensors: Mapping[str, np.ndarray],
    *,
    wanted: Mapping[str, tuple[int, ...]],
    known: Collection[str],
    path: Path,
) -> None:
    """Check named tensors against the shapes of those required, and all known names.

    Raises:
        WeightsError: lists by name everything that is wrong with the file.
    """
    found = {name: tensors[name] for name in wanted if name in tensors}
    complaints = {
        "missing": wanted.keys() - tensors.keys(),
        "unexpected": tensors.keys() - set(known),
        "of another shape": [
            f"{name} {list(tensor.shape)} where {list(wanted[name])} is needed"
            for name, tensor in found.items()
            if tensor.shape != wanted[name]
        ],
        "not finite numbers": [
            name
            for name, tensor in found.items()
            if tensor.dtype.kind not in "iufc" or not np.isfinite(tensor).all()
        ],
    }
    lines = [
        f"  {kind}: {', '.join(sorted(names))}"
        for kind, names in complaints.items()
        if names
    ]
    if lines:
        raise WeightsError(
            f"{path} does not have the weights of this network:\n" + "\n".join(lines)
        )
