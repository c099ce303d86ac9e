"""Learning rate schedules: from the step of a phase to its learning rate."""

import math
from collections.abc import Callable

import optax

from mnist_jax.config import ConfigError, Schedule


def _one_cycle(config: Schedule, peak: float, steps: int, _: int) -> optax.Schedule:
    # Smith and Topin, 2018: https://arxiv.org/abs/1708.07120
    rising = min(round(config.rising * steps), steps - 1)
    fall = optax.cosine_decay_schedule(peak, steps - rising, alpha=config.final_factor)
    if rising == 0:
        return fall
    rise = optax.linear_schedule(config.first_factor * peak, peak, rising)
    return optax.join_schedules([rise, fall], [rising])


# Called with the config, the largest rate, the steps, and the steps of an epoch.
SCHEDULES: dict[str, Callable[[Schedule, float, int, int], optax.Schedule]] = {
    "constant": lambda _, peak, *__: optax.constant_schedule(peak),
    # Loshchilov and Hutter, 2017, without restarts: https://arxiv.org/abs/1608.03983
    "cosine": lambda config, peak, steps, _: optax.cosine_decay_schedule(
        peak, steps, alpha=config.final_factor
    ),
    "one_cycle": _one_cycle,
    "exponential": lambda config, peak, _, per_epoch: optax.exponential_decay(
        peak, per_epoch, config.decay_rate
    ),
}


def check(config: Schedule, *, epochs: int, flag: str = "schedule") -> None:
    """Raise a ConfigError if the warm-up does not fit the schedule or the phase."""
    if config.warmup_epochs and config.name == "one_cycle":
        raise ConfigError(
            f"{flag}.warmup_epochs={config.warmup_epochs}: must be 0 for one_cycle, "
            f"which warms up by itself, for {flag}.rising of the phase."
        )
    if config.warmup_epochs > epochs:
        raise ConfigError(
            f"{flag}.warmup_epochs={config.warmup_epochs}: must be at most the phase's "
            f"{epochs} epochs, of which the warm-up is a part."
        )


def create(
    config: Schedule, *, peak: float, epochs: int, steps_per_epoch: int
) -> optax.Schedule:
    """Build the function from the step of the phase, from 0, to the learning rate.

    `check` must accept the config; `peak` is the largest learning rate.

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
    # Not from 0, so that the first step changes something.
    rise = optax.linear_schedule(peak / (warmup + 1), peak, warmup)
    return optax.join_schedules([rise, after], [warmup])
