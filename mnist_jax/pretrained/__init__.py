"""Weights from elsewhere: files in four formats, and our own runs, as our parameters.

Strict in both directions: a file must hold every tensor that is wanted from it, and
none that the network does not know, each of its shape and with finite numbers. What is
wrong is listed by name.
"""

import dataclasses
import logging
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mnist_jax import models, tree
from mnist_jax.config import Model
from mnist_jax.pretrained import imagenet, names, readers
from mnist_jax.runs import weights
from mnist_jax.runs.weights import WeightsError
from mnist_jax.typing import Tree

__all__ = ["Weights", "WeightsError", "load", "select"]

LOGGER = logging.getLogger(__name__)
NONE, IMAGENET = "none", "imagenet"
_FLAG = "--config.model.pretrained"


@dataclasses.dataclass(frozen=True)
class Weights:
    """What a network begins with in place of random numbers.

    Attributes:
        source: the file or run folder that they come from.
        arrays: by name: `block1_conv1/kernel`, `block1_norm/mean`.
        metadata: what is known about them, as in `mnist_jax.runs.weights`.
    """

    source: str
    arrays: Mapping[str, np.ndarray]
    metadata: Mapping[str, str]

    def put(self, params: Tree, batch_stats: Tree) -> tuple[Tree, Tree]:
        """Return the trees with these arrays in place of those of the same name."""

        def put(path: tuple[Any, ...], leaf: jax.Array) -> jax.Array:
            found = self.arrays.get(tree.name_of(path))
            return leaf if found is None else jnp.asarray(found, leaf.dtype)

        params, batch_stats = (
            jax.tree_util.tree_map_with_path(put, part)
            for part in (params, batch_stats)
        )
        return params, batch_stats

    @property
    def sha256(self) -> str:
        """Checksum of names, shapes and numbers."""
        return tree.digest(dict(self.arrays))


def load(config: Model, model: models.Model) -> Weights | None:
    """Read the weights that a run starts from.

    Args:
        config: says which, by `pretrained` and `pretrained_layers`.
        model: the network that they are for.

    Returns:
        The weights, or None if all are to be drawn.

    Raises:
        WeightsError: the weights cannot be read or downloaded, or do not fit the
            network.
        UserError: an entry of `pretrained_layers` is not a valid regular expression, or
            matches nothing.
    """
    if config.pretrained == NONE:
        return None
    flag = "--config.model.pretrained_layers"
    patterns = tree.compile_patterns(config.pretrained_layers, flag=flag)
    params, _ = jax.eval_shape(model.init, jax.random.key(0))
    tree.check_matches(patterns, params, flag=flag)
    if not patterns:
        raise WeightsError(
            f"{flag} is empty: nothing would be taken from {config.pretrained}. Say "
            f"{_FLAG}=none to draw all weights."
        )
    if config.pretrained == IMAGENET:
        path = imagenet.find_or_download(model.name)
    else:
        path = Path(config.pretrained).expanduser()
    try:
        found = select(*readers.read(path), model=model, patterns=patterns, path=path)
    except WeightsError as error:
        raise WeightsError(
            f"{error}\n{_FLAG} names a file of weights or a run folder; {_FLAG}=none "
            "draws all parameters. --config.model.pretrained_layers says which of them "
            "are taken from there, e.g. '(\"block\",)'."
        ) from None
    _warn_of_input(model, found)
    return found


def select(
    tensors: Mapping[str, np.ndarray],
    metadata: Mapping[str, str],
    *,
    model: models.Model,
    patterns: Sequence[re.Pattern[str]],
    path: Path,
) -> Weights:
    """Take a network's parameters from what `readers.read` returned.

    Args:
        tensors: by the names they have in the file.
        metadata: the file's, empty if it is not ours.
        model: the network.
        patterns: match, from the start, the names of the parameters to take.
        path: of the file.

    Raises:
        WeightsError: the tensors are those of another network, or incomplete.
    """
    if not metadata:
        kind = "torch" if names.is_torch(tensors) else "imagenet"
        metadata = {weights.NETWORK: model.name, weights.PREPROCESS: kind}
        tensors = names.to_ours(tensors, model.stages[:-1])
    if metadata[weights.NETWORK] != model.name:
        raise WeightsError(
            f"{path} has the weights of {metadata[weights.NETWORK]}, and this is "
            f"{model.name}."
        )
    known = weights.shapes(model)
    wanted = {
        name: shape
        for name, shape in known.items()
        if any(pattern.match(name) for pattern in patterns)
    }
    weights.check(tensors, wanted=wanted, known=known, path=path)
    return Weights(str(path), {name: tensors[name] for name in wanted}, metadata)


def _warn_of_input(model: models.Model, found: Weights) -> None:
    """Warn if the network is shown other input than the weights were trained on."""
    expected = weights.model_config(found.metadata, Path(found.source)).get(
        "preprocess"
    )
    given = getattr(model.module, "preprocess", expected)
    # The report shows 0..1 to ImageNet's weights, and its configs do so on purpose.
    as_in_report = given == "unit" and weights.CONFIG not in found.metadata
    if expected is not None and given != expected and not as_in_report:
        LOGGER.warning(
            "The weights in %s were trained with --config.model.preprocess=%s, not %s.",
            found.source,
            expected,
            given,
        )
