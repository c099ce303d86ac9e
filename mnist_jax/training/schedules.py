"""How the learning rate moves from step to step of a phase."""

import math
from collections.abc import Callable

import optax

from mnist_jax.config import ConfigError, Schedule

# What a schedule is built from: its config, the largest rate, steps, steps an epoch.
_Build = Callable[[Schedule, float, int, int], optax.Schedule]


def _constant(
    config: Schedule, peak: float, steps: int, steps_per_epoch: int
) -> optax.Schedule:
    return optax.constant_schedule(peak)


def _cosine(
    config: Schedule, peak: float, steps: int, steps_per_epoch: int
) -> optax.Schedule:
    # Loshchilov and Hutter, 2017, without restarts: https://arxiv.org/abs/1608.03983
    return optax.cosine_decay_schedule(peak, steps, alpha=config.final_factor)


def _one_cycle(
    config: Schedule, peak: float, steps: int, steps_per_epoch: int
) -> optax.Schedule:
    # Smith and Topin, 2018: https://arxiv.org/abs/1708.07120
    rising = min(round(config.rising * steps), steps - 1)
    fall = optax.cosine_decay_schedule(peak, steps - rising, alpha=config.final_factor)
    if rising == 0:
        return fall
    rise = optax.linear_schedule(config.first_factor * peak, peak, rising)
    return optax.join_schedules([rise, fall], [rising])


def _exponential(
    config: Schedule, peak: float, steps: int, steps_per_epoch: int
) -> optax.Schedule:
    return optax.exponential_decay(peak, steps_per_epoch, config.decay_rate)


SCHEDULES: dict[str, _Build] = {
    "constant": _constant,
    "cosine": _cosine,
    "one_cycle": _one_cycle,
    "exponential": _exponential,
}


def check(config: Schedule, *, epochs: int, flag: str = "schedule") -> None:
    """Reject a warm-up that does not fit the schedule or the phase.

    Args:
        config: the schedule.
        epochs: the number of epochs of its phase.
        flag: the name of the schedule on the command line, for messages.

    Raises:
        ConfigError: the warm-up is as long as the phase, or one_cycle has one.
    """
    if config.warmup_epochs and config.name == "one_cycle":
        raise ConfigError(
            f"{flag}.warmup_epochs={config.warmup_epochs}: must be 0 for one_cycle, "
            f"which warms up by itself, for {flag}.rising of the phase."
        )
    if config.warmup_epochs >= epochs:
        raise ConfigError(
            f"{flag}.warmup_epochs={config.warmup_epochs}: must be below the phase's "
            f"{epochs} epochs, of which the warm-up is a part."
        )


def create(
    config: Schedule, *, peak: float, epochs: int, steps_per_epoch: int
) -> optax.Schedule:
    """Build the function from a step of the phase, counted from 0, to a learning rate.

    Args:
        config: a schedule that `check` accepts.
        peak: the largest learning rate.
        epochs: of the phase.
        steps_per_epoch: of the phase.

    Example:
        >>> config = Schedule("cosine", warmup_epochs=1.0)
        >>> rate = create(config, peak=0.1, epochs=3, steps_per_epoch=4)
        >>> [round(float(rate(step)), 3) for step in range(0, 12, 2)]
        [0.02, 0.06, 0.1, 0.085, 0.05, 0.015]
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
