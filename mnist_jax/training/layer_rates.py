"""Which parameters learn at a rate of their own, as a share of the phase's."""

from collections.abc import Sequence

import jax
import optax

from mnist_jax import tree
from mnist_jax.errors import UserError
from mnist_jax.typing import Tree


class LayerRates:
    """The parameters for which the learning rate is multiplied by a factor.

    Layers that come pretrained are often moved less than those that are drawn:
    `block1_=0.1` lets the first block learn at a tenth of the rate. As in PyTorch's
    parameter groups, weight decay goes by that rate too.

    Howard and Ruder, 2018: https://arxiv.org/abs/1801.06146, section 3.1

    Args:
        entries: of the form REGEX=FACTOR. The first whose expression matches a
            parameter's name, from its beginning, counts; where none does, 1.
        flag: what messages call them.

    Raises:
        UserError: one has another form, an expression is none, or a factor is not
            above 0.
    """

    def __init__(self, entries: Sequence[str], *, flag: str = "layer_rates"):
        self._flag = flag
        tree.check_is_list(entries, flag=flag)
        factors = [_factor(entry, flag=flag) for entry in entries]
        patterns = [entry.rpartition("=")[0] for entry in entries]
        compiled = tree.compile_patterns(patterns, flag=flag)
        self._factors = list(zip(compiled, factors, strict=True))

    def __bool__(self) -> bool:
        return bool(self._factors)

    def factors(self, params: Tree) -> Tree:
        """Return the factor of each parameter."""
        return jax.tree_util.tree_map_with_path(
            lambda path, _: next(
                (
                    factor
                    for each, factor in self._factors
                    if each.match(tree.name_of(path))
                ),
                1.0,
            ),
            params,
        )

    def check(self, params: Tree) -> None:
        """Refuse expressions that do not fit a network.

        Args:
            params: the network's, or their shapes.

        Raises:
            UserError: one matches nothing.
        """
        tree.check_matches([each for each, _ in self._factors], params, flag=self._flag)

    def table(self, params: Tree) -> str:
        """Return a line for each layer: the factor, or the factors within it."""
        width = max(map(len, params))
        return "\n".join(
            f"{layer:{width}} "
            + ", ".join(f"{f:g}" for f in sorted(set(jax.tree.leaves(factors))))
            for layer, factors in self.factors(params).items()
        )

    def wrap(
        self, optimizer: optax.GradientTransformation
    ) -> optax.GradientTransformation:
        """Return the optimizer with its directions multiplied by the factors."""
        if not self:
            return optimizer
        scale = optax.stateless(
            lambda directions, _: jax.tree.map(
                lambda factor, direction: factor * direction,
                self.factors(directions),
                directions,
            )
        )
        return optax.chain(optimizer, scale)


def _factor(entry: str, *, flag: str) -> float:
    pattern, _, text = entry.rpartition("=")
    try:
        factor = float(text)
    except ValueError:
        factor = float("nan")
    if not pattern or not 0 < factor < float("inf"):
        raise UserError(
            f'{flag}: {entry!r} must be a regular expression, "=" and a factor above '
            "0, e.g. 'block1_=0.1' (`freeze` is for what is not to move at all)."
        )
    return factor
