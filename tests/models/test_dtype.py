"""bfloat16: what is computed in it, what is not, and that it trains the same way."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mnist_jax import models
from mnist_jax.config import Model
from mnist_jax.data import DIGITS
from mnist_jax.training import step
from tests.support.drawing import draw_weights
from tests.support.networks import DEEP, EACH, SMALL
from tests.support.small_vgg import Narrow

pytestmark = pytest.mark.usefixtures("little_optimized")

KEY = jax.random.key(0)


def create(name, dtype):
    return models.create(Model(name), DIGITS, dtype=dtype)


def products(jaxpr):
    """The convolutions and matrix products of a program, those inside others too."""
    for equation in jaxpr.eqns:
        if equation.primitive.name in ("conv_general_dilated", "dot_general"):
            yield equation
        for value in jax.tree.leaves(tuple(equation.params.values())):
            inner = getattr(value, "jaxpr", value)
            if hasattr(inner, "eqns"):
                yield from products(inner)


@pytest.fixture(scope="module")
def batch(small):
    return step.to_input(jnp.asarray(small.train.images[:32])), small.train.labels[:32]


def loss_and_all(model, params, batch_stats, images, labels):
    def loss_fn(params):
        (logits, _), updated = model.apply(
            params, batch_stats, images, train=True, key=KEY
        )
        assert logits.dtype == jnp.float32
        return models.cross_entropy(logits, jnp.asarray(labels)).mean(), updated

    return jax.value_and_grad(loss_fn, has_aux=True)(params)


# They compute the logits of their averaged features in float32.
FLOAT32_LOGITS = ("densenet", "inception", "resnet", "xception")

every_model = pytest.mark.parametrize("name", EACH)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@every_model
def test_every_product_is_of_the_dtype_and_every_weight_is_float32(name, dtype, batch):
    model = create(name, dtype)
    variables = model.shapes
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {jnp.dtype("float32")}
    program = jax.make_jaxpr(lambda *v: loss_and_all(model, *v, *batch))(*variables)
    found = list(products(program.jaxpr))
    assert len(found) > 10
    for equation in found:
        shapes = [x.aval.shape for x in (*equation.invars, *equation.outvars)]
        if 1 in shapes[0][-2:-1]:
            continue  # BatchNorm's sums: products with a row of ones, float32
        if name in FLOAT32_LOGITS and any(10 in shape for shape in shapes):
            continue
        assert {x.aval.dtype for x in equation.invars} == {jnp.dtype(dtype)}
    # Loss, statistics and gradients are float32 again.
    assert {x.dtype for x in program.out_avals} == {jnp.dtype("float32")}


# They have the layers of the others too: BatchNorm the fast CNN, dropout VGG16.
SHORTEST = ("fast_cnn", "lenet5", "vgg16")
# BatchNorm over few images enlarges what rounding leaves: the triple CNN's is between
# 0.79 and 0.94, by the order of a sum or the seed.
LEAST = dict.fromkeys(DEEP, 0.95) | {"triple_cnn": 0.7}


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=() if name in SHORTEST else pytest.mark.exhaustive)
        for name in SMALL
    ],
)
def test_gradients_point_where_those_of_float32_do(name, batch, monkeypatch):
    monkeypatch.setitem(models.MODELS, "vgg16", Narrow)
    plain = create(name, "float32")
    variables = draw_weights(plain)
    flat = []
    for model in (plain, create(name, "bfloat16")):
        run = jax.jit(lambda *v, model=model: loss_and_all(model, *v, *batch))
        (loss, updated), gradients = run(*variables)
        flat.append(
            np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(gradients)])
        )
        assert np.isfinite(loss) and np.isfinite(flat[-1]).all()
        for leaf in jax.tree.leaves(updated):
            assert np.isfinite(leaf).all()
    cosine = flat[0] @ flat[1] / np.linalg.norm(flat[0]) / np.linalg.norm(flat[1])
    assert cosine > LEAST.get(name, 0.99)
