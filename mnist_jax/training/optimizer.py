"""The optimizer that a config describes."""

from collections.abc import Callable

import optax

from mnist_jax.errors import UserError
from mnist_jax.typing import Config


def _adam(config: Config) -> optax.GradientTransformation:
    # Kingma and Ba, 2015: https://arxiv.org/abs/1412.6980
    return optax.adam(config.learning_rate, b1=config.b1, b2=config.b2, eps=config.eps)


OPTIMIZERS: dict[str, Callable[[Config], optax.GradientTransformation]] = {
    "adam": _adam,
}


def create(config: Config, *, flag: str = "optimizer") -> optax.GradientTransformation:
    """Build the optimizer that `config` (a phase's `optimizer`) describes.

    Args:
        config: its name and its numbers.
        flag: what messages call it.

    Raises:
        UserError: an unknown name, or a number out of its range.
    """
    if config.name not in OPTIMIZERS:
        known = ", ".join(sorted(OPTIMIZERS))
        raise UserError(f"{flag}.name={config.name}: unknown (known: {known}).")
    if not config.learning_rate > 0:
        raise UserError(
            f"{flag}.learning_rate={config.learning_rate}: must be above 0."
        )
    for name in ("b1", "b2"):
        if not 0 <= config[name] < 1:
            raise UserError(
                f"{flag}.{name}={config[name]}: must be at least 0 and below 1."
            )
    if not config.eps > 0:
        raise UserError(f"{flag}.eps={config.eps}: must be above 0.")
    return OPTIMIZERS[config.name](config)
