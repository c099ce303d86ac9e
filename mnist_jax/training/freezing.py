"""Which parameters a phase leaves unchanged."""

from collections.abc import Sequence

import jax
import numpy as np
import optax

from mnist_jax import tree
from mnist_jax.errors import UserError
from mnist_jax.tree import Tree


class Freeze:
    """The parameters whose names match one of some regular expressions.

    A name is a path such as `block1_conv1/kernel`. Expressions match its beginning:
    `block[12]_` freezes the first two blocks.

    Args:
        patterns: the expressions; none to train everything.
        flag: the name of the field on the command line, for messages.

    Raises:
        UserError: an expression is not valid.
    """

    def __init__(self, patterns: Sequence[str], *, flag: str = "freeze"):
        self._flag = flag
        self._patterns = tree.compile_patterns(patterns, flag=flag)

    def __bool__(self) -> bool:
        return bool(self._patterns)

    def mask(self, params: Tree) -> Tree:
        """Return a tree of booleans: whether each parameter is frozen."""
        return tree.map_named(
            lambda name, _: any(each.match(name) for each in self._patterns), params
        )

    def layers(self, params: Tree) -> frozenset[str]:
        """Return the whole paths of the layers that are completely frozen."""
        layers = tree.layers(self.mask(params))
        return frozenset(
            path for path, frozen in layers.items() if all(frozen.values())
        )

    def check(self, params: Tree) -> None:
        """Reject expressions that do not fit a network.

        Raises:
            UserError: one matches nothing, or together they leave nothing to train.
        """
        tree.check_matches(self._patterns, params, flag=self._flag)
        if self and jax.tree.all(self.mask(params)):
            raise UserError(
                f"{self._flag} matches every parameter: there is nothing to train."
            )

    def table(self, params: Tree) -> str:
        """Return the numbers of trained and of frozen parameters, layer by layer."""
        sizes = jax.tree.map(
            lambda frozen, leaf: np.array([not frozen, frozen]) * leaf.size,
            self.mask(params),
            params,
        )
        counts = {k: np.sum(jax.tree.leaves(sizes[k]), axis=0) for k in params}
        counts["together"] = np.sum(list(counts.values()), axis=0)
        width = max(map(len, counts))
        rows = [f"{'layer':{width}} {'trained':>12} {'frozen':>12}"]
        for layer, (trained, frozen) in counts.items():
            rows.append(f"{layer:{width}} {trained:>12,} {frozen:>12,}")
        return "\n".join(rows)

    def wrap(
        self, optimizer: optax.GradientTransformation
    ) -> optax.GradientTransformation:
        """Hide frozen parameters from the optimizer, and return zeros for them.

        They have no moments, and neither clipping nor weight decay includes them.
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
        """Apply `stop_gradient` to the frozen parameters."""
        if not self:
            return params
        return jax.tree.map(
            lambda frozen, leaf: jax.lax.stop_gradient(leaf) if frozen else leaf,
            self.mask(params),
            params,
        )
