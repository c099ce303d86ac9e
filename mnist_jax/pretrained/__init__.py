"""Weights from elsewhere: files in four formats, and our own runs, as our parameters.

Strict in both directions: a file must hold every tensor that is wanted from it, and
none that the network does not know, each of its shape and with finite numbers. What is
wrong is listed by name.
"""

import dataclasses
import logging
from collections.abc import Mapping
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

__all__ = ["Weights", "WeightsError", "load", "read_network"]

LOGGER = logging.getLogger(__name__)
NONE, IMAGENET = "none", "imagenet"
_FLAG = "--config.model.pretrained"


@dataclasses.dataclass(frozen=True)
class Weights:
    """What a network begins with in place of random numbers.

    Attributes:
        source: where they come from.
        arrays: by name: `block1_conv1/kernel`, `block1_norm/mean`.
    """

    source: str
    arrays: Mapping[str, np.ndarray]

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
        WeightsError: they cannot be had, or do not fit the network.
        UserError: an expression in `pretrained_layers` is none, or matches nothing.
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
    tensors, network, torch = read_network(path, model)
    if network not in (None, model.name):
        raise WeightsError(
            f"{path} has the weights of {network}, and this is {model.name}. Give the "
            f"folder of another run or another file with {_FLAG}."
        )
    known = weights.shapes(model)
    wanted = {
        name: shape
        for name, shape in known.items()
        if any(pattern.match(name) for pattern in patterns)
    }
    try:
        weights.check(tensors, wanted=wanted, known=known, path=path)
    except WeightsError as error:
        raise WeightsError(
            f"{error}\n--config.model.pretrained_layers says which parameters are "
            f"taken from there, e.g. '(\"block\",)'; {_FLAG}=none draws all of them."
        ) from None
    _warn_of_input(model, torch, path)
    arrays = {name: tensors[name] for name in wanted}
    return Weights(str(path), arrays)


def read_network(
    path: Path, model: models.Model
) -> tuple[dict[str, np.ndarray], str | None, bool]:
    """Read a file of weights, or a run's, by our names.

    Returns:
        The tensors; the network that they are of, if the file says it; and whether the
        file has torchvision's names.

    Raises:
        WeightsError: there is nothing there that can be read.
    """
    tensors, network = readers.read(path)
    if network is not None:
        return tensors, network, False
    return names.to_ours(tensors, model.stages[:-1]), None, names.is_torch(tensors)


def _warn_of_input(model: models.Model, torch: bool, path: Path) -> None:
    """Say so if images will not be given as such weights expect them."""
    expected = "torch" if torch else "imagenet"
    given = getattr(model.module, "preprocess", expected)
    if given not in ("unit", expected):
        LOGGER.warning(
            "The weights in %s were trained on --config.model.preprocess=%s, not %s.",
            path,
            expected,
            given,
        )
