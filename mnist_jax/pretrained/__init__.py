"""Pretrained weights: from files in four formats and from our own runs.

Strict in both directions: a file must contain every tensor that is asked for, with its
shape and finite numbers, and none that the network does not have. Everything that is
wrong is listed by name. Tensors that are not asked for may have other shapes, so that a
network for other classes can lend all but its last layer.
"""

import dataclasses
import logging
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from mnist_jax import files, models, tree
from mnist_jax.config import Model
from mnist_jax.pretrained import imagenet, names, readers
from mnist_jax.runs import weights
from mnist_jax.runs.weights import WeightsError
from mnist_jax.tree import Tree

__all__ = ["Weights", "WeightsError", "load"]

LOGGER = logging.getLogger(__name__)
_FLAG = "--config.model.pretrained"


@dataclasses.dataclass(frozen=True)
class Weights:
    """Initial values of some of a network's parameters and statistics.

    Attributes:
        source: the file or run folder that they come from.
        arrays: by name: `block1_conv1/kernel`, `block1_norm/mean`.
        metadata: as in `mnist_jax.runs.weights`.
    """

    source: str
    arrays: Mapping[str, np.ndarray]
    metadata: Mapping[str, str]

    def put(self, params: Tree, batch_stats: Tree) -> tuple[Tree, Tree]:
        """Replace the leaves of the two trees that have the names of these arrays."""

        def replace(name: str, leaf: jax.Array) -> jax.Array:
            return jnp.asarray(self.arrays.get(name, leaf), leaf.dtype)

        return tree.map_named(replace, params), tree.map_named(replace, batch_stats)

    def __str__(self) -> str:
        count = len(self.arrays)
        return f"{count} arrays are those of {self.source} (SHA-256 {self.sha256})"

    @property
    def sha256(self) -> str:
        """Checksum of names, shapes and numbers."""
        return tree.digest(dict(self.arrays))


def load(config: Model, model: models.Model) -> Weights | None:
    """Read the weights that a run starts from, or return None for "none".

    Raises:
        WeightsError: the weights cannot be read, or do not fit the network.
        UserError: they cannot be downloaded; or an entry of `pretrained_layers` is not
            a valid regular expression, or matches nothing.
    """
    if config.pretrained == "none":
        return None
    flag = f"{_FLAG}_layers"
    patterns = tree.compile_patterns(config.pretrained_layers, flag=flag)
    tree.check_matches(patterns, model.shapes[0], flag=flag)
    if not patterns:
        raise WeightsError(
            f"{flag} is empty: nothing would be taken from {config.pretrained}. Set "
            f"{_FLAG}=none to draw all weights."
        )
    if config.pretrained == "imagenet":
        path = imagenet.find_or_download(model.name)
    else:
        path = files.expand(config.pretrained)
    try:
        found = _select(*readers.read(path), model=model, patterns=patterns, path=path)
    except WeightsError as error:
        raise WeightsError(
            f"{error}\n{_FLAG} names a file of weights or a run folder; {_FLAG}=none "
            f"draws all parameters. {flag} selects the parameters that are taken from "
            "the file, e.g. '(\"block\",)'."
        ) from None
    _warn_of_input(model, found)
    return found


def _select(
    tensors: Mapping[str, np.ndarray],
    metadata: Mapping[str, str],
    *,
    model: models.Model,
    patterns: Sequence[re.Pattern[str]],
    path: Path,
) -> Weights:
    """Return the tensors with the names that match, if they fit the network."""
    known, recognized = weights.shapes(model), None
    if not metadata:
        tensors = names.unwrap(tensors, path)
        recognized = names.recognize(tensors)
        tensors, metadata = _to_ours(tensors, model, known)
    wanted = {
        name: shape
        for name, shape in known.items()
        if any(pattern.match(name) for pattern in patterns)
    }
    network = metadata[weights.NETWORK]
    if network == model.name:
        try:
            weights.check(tensors, wanted=wanted, known=known, path=path)
        except WeightsError:
            network = recognized or network
            if network == model.name:
                raise
    if network != model.name:
        raise WeightsError(
            f"{path} has the weights of {network}, but the network is {model.name}."
        )
    return Weights(str(path), {name: tensors[name] for name in wanted}, metadata)


def _to_ours(
    tensors: Mapping[str, np.ndarray],
    model: models.Model,
    known: Mapping[str, tuple[int, ...]],
) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Rename the tensors of another program's file, and say what it is."""
    stages = model.stages[:-1] or model.stages
    layers = [layer for stage in stages for layer in stage]
    ours = names.to_ours(tensors, network=model.name, layers=layers, known=known)
    # "imagenet" is the input of the published weights, which may be PyTorch's.
    url, _ = imagenet.PUBLISHED.get(model.name, ("", ""))
    of_torch = names.is_torch(tensors) and not url.endswith(".pth")
    preprocess = "torch" if of_torch else "imagenet"
    return ours, {weights.NETWORK: model.name, weights.PREPROCESS: preprocess}


def _warn_of_input(model: models.Model, found: Weights) -> None:
    """Warn if images are not preprocessed as in the training of the weights."""
    fields = weights.model_config(found.metadata, Path(found.source))
    expected = fields.get("preprocess")
    given = getattr(model.module, "preprocess", expected)
    # VGG16's default is the report's, which feeds 0..1 to ImageNet's weights.
    default = getattr(type(model.module), "preprocess", None)
    on_purpose = given == default and weights.CONFIG not in found.metadata
    if expected is not None and given != expected and not on_purpose:
        LOGGER.warning(
            "The weights in %s were trained with --config.model.preprocess=%s, not %s.",
            found.source,
            expected,
            given,
        )
