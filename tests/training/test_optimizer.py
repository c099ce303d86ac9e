"""The optimizers: those of Keras over 100 steps, or their formulas in NumPy."""

import dataclasses
import os

import jax
import numpy as np
import pytest

from mnist_jax.config import Optimizer, parse
from mnist_jax.training import optimizer

os.environ.setdefault("KERAS_BACKEND", "jax")
import keras  # reads the variable

pytestmark = pytest.mark.usefixtures("little_optimized")

STEPS = 100
SHAPES = {
    "dense": {"kernel": (9, 8), "bias": (8,)},
    "norm": {"scale": (8,), "bias": (8,)},
}
# Of the gradients: as in training, or about as small as epsilon, which then matters.
SCALES = {"usual": (1e-3, 1.0), "tiny": (1e-8, 1e-6)}


def make_config(**fields):
    return parse(fields, Optimizer, flag="a.flag")


def draw_params():
    rng = np.random.default_rng(0)
    return jax.tree.map(
        lambda shape: rng.uniform(-1, 1, shape).astype(np.float32),
        SHAPES,
        is_leaf=lambda x: isinstance(x, tuple),
    )


def draw_gradients(scale="usual"):
    """A hundred of them, every seventh number exactly 0, the first row of each always.

    Each weight has a size of its own, and a direction that it keeps for the most part.
    """
    rng = np.random.default_rng(1)
    low, high = np.log(SCALES[scale])

    def draw(shape):
        sizes = np.exp(rng.uniform(low, high, shape))
        values = sizes * (rng.standard_normal((STEPS, *shape)) + 0.5)
        values[rng.random(values.shape) < 1 / 7] = 0
        values[:, 0] = 0
        return values.astype(np.float32)

    return jax.tree.map(draw, SHAPES, is_leaf=lambda x: isinstance(x, tuple))


def ours(config, params, gradients):
    """The parameters after every step, the learning rate applied as the step does."""
    transform = optimizer.create(config)

    def one(carry, gradient):
        params, state = carry
        directions, state = transform.update(gradient, state, params)
        params = jax.tree.map(
            lambda p, d: p - config.learning_rate * d, params, directions
        )
        return (params, state), params

    def run(params, gradients):
        return jax.lax.scan(one, (params, transform.init(params)), gradients)[1]

    return jax.tree.map(np.asarray, jax.jit(run)(params, gradients))


def of_keras(keras_optimizer, params, gradients):
    """The same in Keras; its variables have the names of ours."""
    paths, tree = jax.tree_util.tree_flatten_with_path(params)
    variables = [keras.Variable(leaf, name=path[-1].key) for path, leaf in paths]
    keras_optimizer.build(variables)

    def one(carry, gradient):
        values, state = carry
        carry = keras_optimizer.stateless_apply(state, gradient, values)
        return carry, carry[0]

    start = (
        [variable.value for variable in variables],
        [variable.value for variable in keras_optimizer.variables],
    )
    run = jax.jit(lambda start, gradients: jax.lax.scan(one, start, gradients)[1])
    # Scalars meet arrays there: no accident, and not ours.
    with jax.numpy_rank_promotion("allow"):
        values = run(start, jax.tree.leaves(gradients))
    return jax.tree.map(np.asarray, jax.tree.unflatten(tree, values))


def in_numpy(formula, config, params, gradients):
    """The same by `formula(config, state, gradient) -> direction`, in float64."""

    def run(param, gradient):
        param, state, every = np.asarray(param, float), {}, []
        for g in np.asarray(gradient, float):
            param = param - config.learning_rate * formula(config, state, g)
            every.append(param)
        return np.stack(every)

    return jax.tree.map(run, params, gradients)


def assert_same(first, second):
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=0, atol=1e-6), first, second
    )


def assert_moved(every, params):
    """That what was compared is more than weights standing still."""
    moved = jax.tree.map(lambda a, b: np.abs(a[-1] - b).max(), every, params)
    assert min(jax.tree.leaves(moved)) > 1e-3


scales = pytest.mark.parametrize("scale", SCALES)


@scales
@pytest.mark.parametrize(
    "numbers",
    [{}, {"learning_rate": 1e-2}, {"b1": 0.5, "b2": 0.7, "eps": 0.2}],
    ids=str,
)
def test_adam_is_that_of_keras(scale, numbers):
    """It ignores the weight decay."""
    config = make_config(weight_decay=0.5, **numbers)
    params, gradients = draw_params(), draw_gradients(scale)
    every = ours(config, params, gradients)
    adam = keras.optimizers.Adam(
        config.learning_rate, config.b1, config.b2, epsilon=config.eps
    )
    if (scale, config.eps) != ("tiny", 0.2):  # Where epsilon lets nothing move.
        assert_moved(every, params)
    assert_same(every, of_keras(adam, params, gradients))


@scales
@pytest.mark.parametrize("eps_in_sqrt", [False, True])
@pytest.mark.parametrize("numbers", [{}, {"decay": 0.7, "eps": 1e-4}], ids=str)
def test_rmsprop_is_that_of_keras(scale, numbers, eps_in_sqrt):
    """With epsilon within the root, as today; outside of it, as TensorFlow 2.4 had it.

    The latter is OptimizerV2's formula: var -= lr * g / (sqrt(v) + eps).
    """
    config = make_config(name="rmsprop", eps_in_sqrt=eps_in_sqrt, **numbers)
    params, gradients = draw_params(), draw_gradients(scale)

    def formula(config, state, g):
        state["v"] = config.decay * state.get("v", 0) + (1 - config.decay) * g * g
        return g / (np.sqrt(state["v"]) + config.eps)

    every = ours(config, params, gradients)
    if eps_in_sqrt:
        rmsprop = keras.optimizers.RMSprop(1e-3, config.decay, epsilon=config.eps)
        theirs = of_keras(rmsprop, params, gradients)
    else:
        theirs = in_numpy(formula, config, params, gradients)
    if scale != "tiny":  # Where epsilon may let nothing move.
        assert_moved(every, params)
    assert_same(every, theirs)


@scales
@pytest.mark.parametrize("weight_decay", [0.0, 0.5])
def test_adamw_is_that_of_keras_and_only_kernels_decay(scale, weight_decay):
    config = make_config(name="adamw", weight_decay=weight_decay, learning_rate=4e-3)
    params, gradients = draw_params(), draw_gradients(scale)
    adamw = keras.optimizers.AdamW(4e-3, weight_decay=weight_decay)
    adamw.exclude_from_weight_decay(var_names=["bias", "scale"])
    every = ours(config, params, gradients)
    assert_same(every, of_keras(adamw, params, gradients))
    # Adam leaves alone what has no gradient: only the decay is left.
    shrunk = params["dense"]["kernel"][0] * (1 - 4e-3 * weight_decay) ** STEPS
    np.testing.assert_allclose(every["dense"]["kernel"][-1, 0], shrunk, atol=1e-5)
    for layer, name in (("dense", "bias"), ("norm", "scale"), ("norm", "bias")):
        assert (every[layer][name][-1, 0] == params[layer][name][0]).all()


@pytest.mark.parametrize(
    ("momentum", "nesterov"), [(0.0, False), (0.9, False), (0.9, True), (0.5, True)]
)
def test_sgd_is_that_of_pytorch(momentum, nesterov):
    """https://docs.pytorch.org/docs/stable/generated/torch.optim.SGD.html."""
    fields = {"momentum": momentum, "nesterov": nesterov}
    config = make_config(name="sgd", learning_rate=1e-2, **fields)
    params, gradients = draw_params(), draw_gradients()

    def formula(config, state, g):
        if momentum == 0:
            return g
        state["b"] = g if "b" not in state else momentum * state["b"] + g
        return g + momentum * state["b"] if nesterov else state["b"]

    every = ours(config, params, gradients)
    jax.tree.map(
        # Relative too: the parameters grow here.
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6, atol=2e-6),
        every,
        in_numpy(formula, config, params, gradients),
    )


def global_norm(gradients):
    """Of all together, at each step."""
    leaves = [np.asarray(x, float) for x in jax.tree.leaves(gradients)]
    squares = [(x**2).reshape(STEPS, -1).sum(axis=1) for x in leaves]
    return np.sqrt(sum(squares))


def clipped(gradients, limit):
    factors = np.minimum(1, limit / global_norm(gradients))
    assert 20 < (factors < 1).sum() < 80  # Both kinds of steps are there.
    return jax.tree.map(
        lambda g: (g.T * factors).T.astype(np.float32),  # type: ignore[union-attr]
        gradients,
    )


@pytest.mark.parametrize("name", list(optimizer.OPTIMIZERS))
def test_gradients_are_clipped_all_together_and_first(name):
    params, gradients = draw_params(), draw_gradients()
    limit = float(np.median(global_norm(gradients)))
    config = make_config(name=name, clip_norm=limit, momentum=0.9, eps=1e-3)
    by_hand = dataclasses.replace(config, clip_norm=0.0)
    assert_same(
        ours(config, params, gradients),
        ours(by_hand, params, clipped(gradients, limit)),
    )


@pytest.mark.parametrize("name", list(optimizer.OPTIMIZERS))
def test_directions_do_not_hold_the_learning_rate(name):
    """The step multiplies it in: it changes from step to step."""
    params, gradients = draw_params(), jax.tree.map(lambda g: g[1], draw_gradients())

    def direction(learning_rate):
        config = make_config(name=name, learning_rate=learning_rate, momentum=0.9)
        transform = optimizer.create(config)
        return transform.update(gradients, transform.init(params), params)[0]

    assert_same(direction(1e-3), direction(0.5))
