"""Numbers of a config, and the ranges that they must lie in."""

import math

from mnist_jax.errors import UserError
from mnist_jax.typing import Config


def check_range(
    flag: str,
    config: Config,
    name: str,
    *,
    at_least: float = -math.inf,
    above: float = -math.inf,
    at_most: float = math.inf,
    below: float = math.inf,
) -> None:
    """Refuse a number that is out of its range, infinite or none at all.

    Args:
        flag: of the config that holds it, e.g. "--config.phases[0].optimizer".
        config: that config.
        name: of the field.
        at_least: the range's lower end, which belongs to it.
        above: the range's lower end, which does not.
        at_most: the range's upper end, which belongs to it.
        below: the range's upper end, which does not.

    Raises:
        UserError: with the flag and the range.
    """
    value = config[name]
    if math.isfinite(value) and at_least <= value <= at_most and above < value < below:
        return
    limits = [
        f"{words} {limit}"
        for words, limit in (
            ("at least", at_least),
            ("above", above),
            ("at most", at_most),
            ("below", below),
        )
        if math.isfinite(limit)
    ]
    wanted = " and ".join(limits) or "a finite number"
    raise UserError(f"{flag}.{name}={value}: must be {wanted}.")
