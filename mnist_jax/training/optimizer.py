"""The optimizers that a config can name: from gradients to directions.

The step multiplies directions by the learning rate, which both the schedule and the
plateau change.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from mnist_jax import tree
from mnist_jax.config import ConfigError, Optimizer, load_object
from mnist_jax.tree import Tree


def scale_by_keras_adam(
    b1: float, b2: float, eps: float
) -> optax.GradientTransformation:
    """Build Adam's direction with Keras's epsilon.

    Keras adds epsilon to the root of the second moment before the bias correction,
    optax and PyTorch after it. In effect, Keras's is larger by 1 / sqrt(1 - b2**t): 32
    times at the first step, 1.3 times at the thousandth. This matters where gradients
    are not much larger than epsilon.

    References:
        Kingma and Ba, 2015, end of section 2: https://arxiv.org/abs/1412.6980
    """

    def update_fn(
        updates: Tree, state: Any, params: Tree | None = None
    ) -> tuple[Tree, optax.ScaleByAdamState]:
        del params
        steps = state.count + 1
        mu = jax.tree.map(lambda m, g: m + (1 - b1) * (g - m), state.mu, updates)
        nu = jax.tree.map(lambda v, g: v + (1 - b2) * (g * g - v), state.nu, updates)
        t = steps.astype(jnp.float32)
        correction = jnp.sqrt(1 - b2**t) / (1 - b1**t)
        updates = jax.tree.map(
            lambda m, v: correction * m / (jnp.sqrt(v) + eps), mu, nu
        )
        return updates, optax.ScaleByAdamState(steps, mu, nu)

    return optax.GradientTransformation(optax.scale_by_adam().init, update_fn)


def _adam(config: Optimizer) -> optax.GradientTransformation:
    return scale_by_keras_adam(config.b1, config.b2, config.eps)


OPTIMIZERS: dict[str, Callable[[Optimizer], optax.GradientTransformation]] = {
    "adam": _adam,
    # Loshchilov and Hutter, 2019: https://arxiv.org/abs/1711.05101
    "adamw": lambda config: optax.chain(
        _adam(config),
        optax.add_decayed_weights(config.weight_decay, mask=_is_kernel),
    ),
    # Tieleman and Hinton, 2012: lecture 6e of "Neural networks for machine learning".
    "rmsprop": lambda config: optax.scale_by_rms(
        config.decay, config.eps, eps_in_sqrt=config.eps_in_sqrt
    ),
    # Sutskever, Martens, Dahl, Hinton, 2013: https://proceedings.mlr.press/v28/
    "sgd": lambda config: (
        optax.trace(config.momentum, nesterov=config.nesterov)
        if config.momentum
        else optax.identity()
    ),
}


def create(
    config: Optimizer, *, flag: str = "optimizer"
) -> optax.GradientTransformation:
    """Build the optimizer that a config describes.

    Its directions are to be multiplied by minus the learning rate. `flag` is
    the name of the config in messages.

    Raises:
        ConfigError: it names a function that cannot be imported, or that does not
            return an optax transformation.
    """
    make = OPTIMIZERS.get(config.name) or load_object(config.name, f"{flag}.name")
    direction = make(config)
    if not isinstance(direction, optax.GradientTransformation):
        raise ConfigError(
            f"{flag}.name={config.name}: returned {type(direction).__name__}, not an "
            "optax.GradientTransformation."
        )
    if config.clip_norm == 0:
        return direction
    # Pascanu, Mikolov, Bengio, 2013: https://proceedings.mlr.press/v28/pascanu13.html
    return optax.chain(optax.clip_by_global_norm(config.clip_norm), direction)


def _is_kernel(params: Tree) -> Tree:
    return tree.map_named(lambda name, _: name.endswith("kernel"), params)
