"""The defaults of every experiment, and what several experiments share.

The other files call `get_config` and change a few lines. `mnist-jax fields` lists all
fields. Any of them can be set on the command line, e.g. `--config.seed=3` or
`--config.phases[0].epochs=5`.
"""

import functools
from collections.abc import Callable, Collection, Mapping, Sequence

from ml_collections import ConfigDict

from mnist_jax import config as fields
from mnist_jax.config.border import to_config_dict
from mnist_jax.errors import UserError


def get_config() -> ConfigDict:
    """Return the defaults: LeNet-5 on MNIST with the report's recipe."""
    return to_config_dict(fields.Experiment())


def get_phase() -> ConfigDict:
    """Return the defaults of a phase, one of `config.phases`."""
    return to_config_dict(fields.Phase())


def get_model(name: str) -> ConfigDict:
    """Return the defaults of `config.model` for a network, with the network's options.

    Args:
        name: a key of `mnist_jax.models.MODELS`.
    """
    from mnist_jax import models  # imported late: Flax takes a second

    return to_config_dict(models.complete(fields.Model(name)))


def with_variants(
    config: ConfigDict,
    variant: str,
    variants: Mapping[str, Callable[[ConfigDict], None]],
    *,
    alternatives: Sequence[Collection[str]] = (),
) -> ConfigDict:
    """Apply the variants that `--config=FILE:VARIANT` names, and append their names.

    Variants are applied in the order of `variants`, not of the command line.

    Args:
        config: the plain experiment.
        variant: the text after the colon: empty, or names separated by commas.
        variants: the known variants, functions that change a config.
        alternatives: groups of variants that exclude each other.

    Raises:
        UserError: there is no such variant, or two exclude each other.
    """
    named = variant.split(",") if variant else []
    for each in named:
        if each not in variants:
            known = f"known: {', '.join(variants)}" if variants else "it has none"
            raise UserError(
                f"--config=...:{variant}: {config.name} has no such variant as "
                f"{each!r} ({known})."
            )
    for group in alternatives:
        chosen = [name for name in dict.fromkeys(named) if name in group]
        if len(chosen) > 1:
            raise UserError(
                f"--config=...:{variant}: {' and '.join(chosen)} exclude each other. "
                "Give one of them."
            )
    for name, change in variants.items():
        if name in named:
            change(config)
            config.name = f"{config.name}-{name}"
    return config


def train_better(
    config: ConfigDict,
    *,
    learning_rate: float,
    epochs: int,
    batch_size: int = 128,
    weight_decay: float = 1e-4,
    shift: float = 0.05,
) -> None:
    """Apply the recipe that `:tuned` and `:fast` start from; see docs/recipes.md.

    Args:
        config: the experiment.
        learning_rate: the largest learning rate of the schedule.
        epochs: the number of epochs.
        batch_size: images per step.
        weight_decay: AdamW's.
        shift: the largest shift of the training images, as a share of their side.
    """
    config.augment.update(rotation=10.0, zoom=0.1, shift=shift)
    config.test_weights = "last"
    phase = get_phase()
    phase.update(
        epochs=epochs, batch_size=batch_size, label_smoothing=0.05, ema_decay=0.999
    )
    phase.optimizer.update(
        name="adamw", learning_rate=learning_rate, weight_decay=weight_decay
    )
    phase.schedule.update(name="cosine", warmup_epochs=1.0)
    config.phases = (phase,)


def learn_from_few(config: ConfigDict, *, learning_rate: float = 2e-3) -> None:
    """Apply the recipe of `:small_data`, for 1,000 training images or so.

    An epoch is 250 steps, however few images there are.

    Args:
        config: the experiment.
        learning_rate: the largest learning rate of the schedule.
    """
    train_better(
        config,
        learning_rate=learning_rate,
        epochs=8,
        batch_size=64,
        weight_decay=0.05,
        shift=0.1,
    )
    config.data.train_size = 1000
    config.report_accuracy = 0.0  # which is that of all images
    config.augment.update(rotation=15.0, zoom=0.15, elastic=0.5, fade=0.3)
    config.phases[0].update(steps_per_epoch=250, ema_decay=0.995)


def train_head_first(config: ConfigDict, body: tuple[str, ...]) -> None:
    """Set the report's two phases for a pretrained network: its head, then everything.

    Args:
        config: the experiment.
        body: regular expressions for the pretrained layers, frozen in the first phase.
    """
    phases = []
    for name, epochs, batch_size, learning_rate, patience in (
        ("head", 50, 64, 1e-4, 6),
        ("everything", 20, 32, 1e-5, 3),
    ):
        phase = get_phase()
        phase.update(name=name, epochs=epochs, batch_size=batch_size)
        phase.optimizer.update(name="adam", learning_rate=learning_rate)
        phase.plateau.update(monitor="val_loss", patience=3, factor=0.1)
        phase.early_stopping.update(
            monitor="val_loss", patience=patience, restore_best=True
        )
        phases.append(phase)
    phases[0].freeze = body
    config.phases = tuple(phases)


# All layers but those of the head.
_BODY = ("(?!dense1/|logits/)",)


def published(network: str, stages: int) -> dict[str, Callable[[ConfigDict], None]]:
    """Return the variants of an experiment that train a published network instead.

    They exclude each other:
      imagenet        a new head on the frozen body from ImageNet, then everything
      head_only       the first of these two phases alone
      first_stages=N  only the first N stages of the body from ImageNet, in one phase

    Args:
        network: a key of `mnist_jax.models.MODELS`.
        stages: the number of stages of its body.
    """

    def imagenet(config: ConfigDict) -> None:
        defaults = get_config()
        config.update(augment=defaults.augment, test_weights=defaults.test_weights)
        config.model = get_model(network)
        config.model.update(pretrained="imagenet", pretrained_layers=_BODY)
        config.eval_batch_size = 500
        train_head_first(config, _BODY)

    def head_only(config: ConfigDict) -> None:
        imagenet(config)
        config.phases = config.phases[:1]

    def first_stages(n: int, config: ConfigDict) -> None:
        from mnist_jax import data, models

        head_only(config)
        config.phases[0].update(name="train", freeze=())
        body = models.create(fields.Model(network), data.DIGITS).stages[:n]
        config.model.pretrained_layers = tuple(f"({'|'.join(x)})/" for x in body)

    first = {
        f"first_stages={n}": functools.partial(first_stages, n)
        for n in range(1, stages + 1)
    }
    return {"imagenet": imagenet, "head_only": head_only, **first}
