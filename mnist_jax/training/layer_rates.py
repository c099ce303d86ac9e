"""Which parameters have a learning rate of their own, as a share of the phase's."""

from collections.abc import Sequence

import jax
import optax

from mnist_jax import tree
from mnist_jax.errors import UserError
from mnist_jax.tree import Tree


class LayerRates:
    """Factors of the learning rate, by regular expressions for parameters' names.

    Pretrained layers often learn more slowly than new ones: `block1_=0.1` lets the
    first block learn at a tenth of the rate. As in PyTorch's parameter groups, weight
    decay is multiplied too.

    Howard and Ruder, 2018: https://arxiv.org/abs/1801.06146, section 3.1

    Args:
        entries: of the form REGEX=FACTOR. The first that matches a name from its
            beginning counts; if none does, the factor is 1.
        flag: the name of the field on the command line, for messages.

    Raises:
        UserError: an entry has another form, its expression is not valid, or its factor
            is not above 0.
    """

    def __init__(self, entries: Sequence[str], *, flag: str = "layer_rates"):
        self._flag = flag
        self._factors = [_factor(entry, flag=flag) for entry in entries]
        patterns = [entry.rpartition("=")[0] for entry in entries]
        self._patterns = tree.compile_patterns(patterns, flag=flag)

    def __bool__(self) -> bool:
        return bool(self._patterns)

    def factors(self, params: Tree) -> Tree:
        """Return the factor of each parameter."""

        def factor_of(name: str, _: object) -> float:
            pairs = zip(self._patterns, self._factors, strict=True)
            return next((factor for each, factor in pairs if each.match(name)), 1.0)

        return tree.map_named(factor_of, params)

    def check(self, params: Tree) -> None:
        """Raise a UserError if an expression matches no parameter of a network."""
        tree.check_matches(self._patterns, params, flag=self._flag)

    def table(self, params: Tree) -> str:
        """Return the factor, or factors, of each layer, one layer a line."""
        width = max(map(len, params))
        return "\n".join(
            f"{layer:{width}} "
            + ", ".join(f"{f:g}" for f in sorted(set(jax.tree.leaves(factors))))
            for layer, factors in self.factors(params).items()
        )

    def wrap(
        self, optimizer: optax.GradientTransformation
    ) -> optax.GradientTransformation:
        """Multiply the directions of an optimizer by the factors."""
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
            "0, e.g. 'block1_=0.1' (use `freeze` for parameters that must not change)."
        )
    return factor
