"""Which parameters a phase does not train, and which have their own learning rate."""

import operator
from collections.abc import Sequence

import jax
import optax

from mnist_jax import tree
from mnist_jax.errors import UserError
from mnist_jax.tree import Tree


class Groups:
    """Groups of parameters, by regular expressions for their names.

    A name is a whole path such as `block1/conv2/kernel`. Expressions match its
    beginning: `block[12]` is the first two blocks. Pretrained layers often learn more
    slowly than new ones: `block1=0.1` lets the first block learn at a tenth of the
    rate. As in PyTorch's parameter groups, weight decay is multiplied too.

    Howard and Ruder, 2018: https://arxiv.org/abs/1801.06146, section 3.1

    Args:
        freeze: expressions for the parameters that are not trained.
        layer_rates: entries of the form REGEX=FACTOR. The first that matches a name
            applies; by default, the factor is 1.
        flag: the name of the phase in messages.

    Raises:
        UserError: an expression or an entry is not valid.
    """

    def __init__(
        self,
        freeze: Sequence[str] = (),
        layer_rates: Sequence[str] = (),
        flag: str = "phase",
    ):
        self._flags = f"{flag}.freeze", f"{flag}.layer_rates"
        self._frozen = tree.compile_patterns(freeze, flag=self._flags[0])
        rates = [_factor(entry, flag=self._flags[1]) for entry in layer_rates]
        patterns = [entry.rpartition("=")[0] for entry in layer_rates]
        slowed = tree.compile_patterns(patterns, flag=self._flags[1])
        self._rates = list(zip(slowed, rates, strict=True))

    def __bool__(self) -> bool:
        return bool(self._frozen or self._rates)

    def factors(self, params: Tree) -> Tree:
        """Return the factor of each parameter's learning rate; 0.0 if it is frozen."""

        def factor(name: str, _: object) -> float:
            if any(pattern.match(name) for pattern in self._frozen):
                return 0.0
            return next((rate for each, rate in self._rates if each.match(name)), 1.0)

        return tree.map_named(factor, params)

    def frozen_layers(self, params: Tree) -> frozenset[str]:
        """Return the whole paths of the layers that are completely frozen."""
        layers = tree.layers(self.factors(params))
        return frozenset(path for path, own in layers.items() if not any(own.values()))

    def check(self, params: Tree) -> None:
        """Raise a UserError if an expression matches nothing, or all is frozen."""
        freeze, layer_rates = self._flags
        tree.check_matches(self._frozen, params, flag=freeze)
        tree.check_matches([each for each, _ in self._rates], params, flag=layer_rates)
        if not any(jax.tree.leaves(self.factors(params))):
            raise UserError(
                f"{freeze} matches every parameter: there is nothing to train."
            )

    def wrap(
        self, optimizer: optax.GradientTransformation
    ) -> optax.GradientTransformation:
        """Multiply an optimizer's directions, and hide frozen parameters from it.

        These have no moments, and neither clipping nor weight decay includes them;
        their directions are zeros.
        """

        def scale(directions: Tree, _: Tree | None) -> Tree:
            return jax.tree.map(operator.mul, self.factors(directions), directions)

        def trained(params: Tree) -> Tree:
            return jax.tree.map(bool, self.factors(params))

        def frozen(params: Tree) -> Tree:
            return jax.tree.map(operator.not_, self.factors(params))

        if self._rates:
            optimizer = optax.chain(optimizer, optax.stateless(scale))
        if not self._frozen:
            return optimizer
        return optax.chain(
            optax.masked(optimizer, trained), optax.masked(optax.set_to_zero(), frozen)
        )

    def stop(self, params: Tree) -> Tree:
        """Apply `stop_gradient` to the frozen parameters."""
        if not self._frozen:
            return params
        return jax.tree.map(
            lambda factor, leaf: leaf if factor else jax.lax.stop_gradient(leaf),
            self.factors(params),
            params,
        )


def _factor(entry: str, *, flag: str) -> float:
    pattern, _, text = entry.rpartition("=")
    try:
        factor = float(text)
    except ValueError:
        factor = float("nan")
    if not pattern or not 0 < factor < float("inf"):
        raise UserError(
            f'{flag}: {entry!r} must be a regular expression, "=" and a factor above '
            "0, e.g. 'block1=0.1' (use `freeze` for parameters that must not change)."
        )
    return factor
