"""Which parameters a phase leaves as they are, and how little they then cost."""

from collections.abc import Sequence

import jax
import optax

from mnist_jax import tree
from mnist_jax.errors import UserError
from mnist_jax.typing import Tree


class Freeze:
    """The parameters whose names match one of some regular expressions.

    A parameter's name is its path, e.g. `block1_conv1/kernel`; an expression matches if
    it does so from the name's beginning: `block[12]_` freezes the first two blocks.

    Args:
        patterns: the expressions; none to train everything.
        flag: what messages call them.

    Raises:
        UserError: one is no regular expression.
    """

    def __init__(self, patterns: Sequence[str], *, flag: str = "freeze"):
        self._flag = flag
        self._patterns = tree.compile_patterns(patterns, flag=flag)

    def __bool__(self) -> bool:
        return bool(self._patterns)

    def mask(self, params: Tree) -> Tree:
        """Say of each parameter whether it is frozen."""
        return jax.tree_util.tree_map_with_path(
            lambda path, _: any(
                each.match(tree.name_of(path)) for each in self._patterns
            ),
            params,
        )

    def layers(self, params: Tree) -> frozenset[str]:
        """Return the names of the layers that are frozen whole."""
        return frozenset(
            layer for layer, frozen in self.mask(params).items() if jax.tree.all(frozen)
        )

    def check(self, params: Tree) -> None:
        """Refuse expressions that do not fit a network.

        Args:
            params: the network's, or their shapes.

        Raises:
            UserError: one matches nothing, or together they leave nothing to train.
        """
        tree.check_matches(self._patterns, params, flag=self._flag)
        if self and jax.tree.all(self.mask(params)):
            raise UserError(
                f"{self._flag} matches every parameter: there is nothing to train."
            )

    def table(self, params: Tree) -> str:
        """Return a line for each layer that is frozen or trained in part, and sums."""
        mask, lines, totals = self.mask(params), [], {True: 0, False: 0}
        for layer in params:
            counts = {True: 0, False: 0}
            pairs = zip(
                jax.tree.leaves(mask[layer]),
                jax.tree.leaves(params[layer]),
                strict=True,
            )
            for frozen, leaf in pairs:
                counts[frozen] += leaf.size
                totals[frozen] += leaf.size
            lines.append((layer, f"{counts[False]:,}", f"{counts[True]:,}"))
        lines.append(("together", f"{totals[False]:,}", f"{totals[True]:,}"))
        width = max(len(layer) for layer, *_ in lines)
        return "\n".join(
            f"{layer:{width}} {trained:>12} {frozen:>12}"
            for layer, trained, frozen in [("layer", "trained", "frozen"), *lines]
        )

    def wrap(
        self, optimizer: optax.GradientTransformation
    ) -> optax.GradientTransformation:
        """Return the optimizer without moments, nor a direction, for the frozen ones.

        It knows nothing of them: neither a norm to clip nor a decay counts them.
        """
        if not self:
            return optimizer

        def trained(params: Tree) -> Tree:
            return jax.tree.map(lambda frozen: not frozen, self.mask(params))

        return optax.chain(
            optax.masked(optimizer, trained),
            optax.masked(optax.set_to_zero(), self.mask),
        )

    def stop(self, params: Tree) -> Tree:
        """Return parameters through whose frozen part no gradient is computed."""
        if not self:
            return params
        return jax.tree.map(
            lambda frozen, leaf: jax.lax.stop_gradient(leaf) if frozen else leaf,
            self.mask(params),
            params,
        )
