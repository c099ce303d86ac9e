"""How the learning rate moves from step to step of a phase."""

import math
from collections.abc import Callable

import optax

from mnist_jax.errors import UserError
from mnist_jax.training.ranges import check_range
from mnist_jax.typing import Config

# What a schedule is built from: its config, the largest rate, steps, steps an epoch.
_Build = Callable[[Config, float, int, int], optax.Schedule]


def _constant(
    config: Config, peak: float, steps: int, steps_per_epoch: int
) -> optax.Schedule:
    return optax.constant_schedule(peak)


def _cosine(
    config: Config, peak: float, steps: int, steps_per_epoch: int
) -> optax.Schedule:
    # Loshchilov and Hutter, 2017, without restarts: https://arxiv.org/abs/1608.03983
    return optax.cosine_decay_schedule(peak, steps, alpha=config.final_factor)


def _one_cycle(
    config: Config, peak: float, steps: int, steps_per_epoch: int
) -> optax.Schedule:
    # Smith and Topin, 2018: https://arxiv.org/abs/1708.07120
    rising = min(round(config.rising * steps), steps - 1)
    fall = optax.cosine_decay_schedule(peak, steps - rising, alpha=config.final_factor)
    if rising == 0:
        return fall
    rise = optax.linear_schedule(config.first_factor * peak, peak, rising)
    return optax.join_schedules([rise, fall], [rising])


def _exponential(
    config: Config, peak: float, steps: int, steps_per_epoch: int
) -> optax.Schedule:
    return optax.exponential_decay(peak, steps_per_epoch, config.decay_rate)


SCHEDULES: dict[str, _Build] = {
    "constant": _constant,
    "cosine": _cosine,
    "one_cycle": _one_cycle,
    "exponential": _exponential,
}


def check(config: Config, *, epochs: int, flag: str = "schedule") -> None:
    """Refuse a schedule (a phase's `schedule`) that cannot be built.

    Args:
        config: its name and its numbers.
        epochs: of the phase.
        flag: what messages call it.

    Raises:
        UserError: an unknown name, or a number out of its range.
    """
    if config.name not in SCHEDULES:
        known = ", ".join(SCHEDULES)
        raise UserError(f"{flag}.name={config.name}: unknown (known: {known}).")
    check_range(flag, config, "final_factor", at_least=0, at_most=1)
    check_range(flag, config, "rising", at_least=0, below=1)
    check_range(flag, config, "first_factor", at_least=0, at_most=1)
    check_range(flag, config, "decay_rate", above=0, at_most=1)
    check_range(flag, config, "warmup_epochs", at_least=0)
    if config.warmup_epochs and config.name == "one_cycle":
        raise UserError(
            f"{flag}.warmup_epochs={config.warmup_epochs}: must be 0 for one_cycle, "
            f"which warms up by itself, for {flag}.rising of the phase."
        )
    if config.warmup_epochs >= epochs:
        raise UserError(
            f"{flag}.warmup_epochs={config.warmup_epochs}: must be below the phase's "
            f"{epochs} epochs, of which the warm-up is a part."
        )


def create(
    config: Config, *, peak: float, epochs: int, steps_per_epoch: int
) -> optax.Schedule:
    """Build the function from a step of the phase, counted from 0, to a learning rate.

    Args:
        config: a phase's `schedule`, which `check` accepts.
        peak: the largest learning rate.
        epochs: of the phase.
        steps_per_epoch: of the phase.
    """
    steps = epochs * steps_per_epoch
    build = SCHEDULES[config.name]
    if config.warmup_epochs == 0:
        return build(config, peak, steps, steps_per_epoch)
    warmup = min(math.ceil(config.warmup_epochs * steps_per_epoch), steps - 1)
    after = build(config, peak, steps - warmup, steps_per_epoch)
    # Not from 0: the first step is to change something.
    rise = optax.linear_schedule(peak / (warmup + 1), peak, warmup)
    return optax.join_schedules([rise, after], [warmup])
