"""Operations that have several forms: each against XLA's plain one, and who is chosen.

All are jitted with the loop's options, as they are used: XLA fuses a form with what
stands before it, which has once lost half of a gradient.
"""

import dataclasses
import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export

from mnist_jax import models
from mnist_jax.config import Model
from mnist_jax.data import DIGITS
from mnist_jax.devices.compiler import compiler_options, short_program_options
from mnist_jax.errors import UserError
from mnist_jax.models import layers, operations

BATCH = 86


def why_not_onednn(dtype="float32"):
    """Why oneDNN's form cannot be tested here; empty if it can."""
    return operations.choose("auto", dtype=dtype).reason


onednn = pytest.param(
    "onednn", marks=pytest.mark.skipif(bool(why_not_onednn()), reason=why_not_onednn())
)
# XLA's with the remedies for a CPU, and oneDNN's.
FORMS = ["cpu", onednn]
every_form = pytest.mark.parametrize("form", FORMS)


def values_and_gradients(calls, form):
    """Of the products of the results with fixed random arrays, in one program.

    Args:
        calls: functions, each with its arguments.
        form: which one they are to take.

    Returns:
        Of each call, the result and the gradients by its arguments.
    """

    def run(every, factors):
        results = []
        for (function, _), args, factor in zip(calls, every, factors, strict=True):
            result, backward = jax.vjp(function, *args)
            results.append((result, backward(factor)))
        return results

    # The plain form is only the reference: how it is compiled does not matter.
    options = short_program_options() if form == "plain" else compiler_options()
    compiled = jax.jit(run, compiler_options=options)
    with operations.form(form):
        every = [args for _, args in calls]
        shapes = [jax.eval_shape(function, *args).shape for function, args in calls]
        factors = [draw(9, shape) for shape in shapes]
        return jax.tree.map(np.asarray, compiled(every, factors))


def draw(seed, shape):
    return jnp.asarray(np.random.default_rng(seed).standard_normal(shape), jnp.float32)


def assert_agrees_with_plain(calls, form, tolerance):
    """Equal to within a share of the largest number of each array.

    Returns:
        What the calls gave.
    """
    ours, plain = (values_and_gradients(calls, each) for each in (form, "plain"))
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(plain), strict=True):
        assert (a.shape, a.dtype) == (b.shape, b.dtype)
        np.testing.assert_allclose(a, b, rtol=0, atol=tolerance * np.abs(b).max())
    return ours


# -- convolution


# Shapes of the images and of the kernel, and the padding.
CONVOLUTIONS = {
    # LeNet-5, which pads by itself; the double and the triple CNN.
    "in use": [
        ((BATCH, 32, 32, 1), (5, 5, 1, 6), "VALID"),
        ((BATCH, 14, 14, 6), (5, 5, 6, 16), "VALID"),
        ((BATCH, 28, 28, 1), (5, 5, 1, 32), "SAME"),
        ((BATCH, 28, 28, 1), (3, 3, 1, 32), "SAME"),
        ((BATCH, 7, 7, 64), (3, 3, 64, 128), "SAME"),
    ],
    # SAME with an even kernel pads more on one side.
    "odd": [
        ((3, 9, 7, 1), (3, 2, 1, 4), "VALID"),
        ((3, 9, 7, 1), (2, 4, 1, 4), "SAME"),
        ((1, 5, 8, 1), (1, 1, 1, 1), "SAME"),
        ((2, 2, 3, 1), (2, 3, 1, 3), "VALID"),
        ((2, 2, 1, 1), (3, 3, 1, 3), "SAME"),
    ],
    # Images smaller than the kernel: VGG's last block, with fewer channels.
    "small": [
        ((8, 2, 2, 64), (3, 3, 64, 64), "SAME"),
        ((3, 2, 5, 8), (3, 3, 8, 4), "SAME"),
        ((3, 4, 1, 8), (3, 2, 8, 4), "SAME"),
    ],
}


@every_form
@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize("which", CONVOLUTIONS)
def test_a_convolution_is_that_of_the_plain_form(which, relu, form):
    calls = []
    for images, kernel, padding in CONVOLUTIONS[which]:
        convolve = functools.partial(operations.conv, padding=padding, relu=relu)
        # Far from 0, where rounding would decide what a ReLU lets through.
        bias = jnp.full(kernel[-1:], 3.0 * np.sqrt(np.prod(kernel[:3])))
        bias = bias.at[::2].multiply(-1) if relu else draw(2, kernel[-1:])
        calls.append((convolve, (draw(0, images), draw(1, kernel), bias)))
    # Sums over a batch's every place, in another order.
    ours = assert_agrees_with_plain(calls, form, 1e-5)
    if relu:
        zeros = [np.mean(result == 0) for result, _ in ours if result.shape[-1] > 1]
        assert all(0.2 < share < 0.8 for share in zeros)


@pytest.mark.parametrize("form", ["plain", *FORMS])
def test_a_layer_is_flax_s_with_its_relu(form):
    images = draw(0, (2, 9, 8, 3))
    ours = layers.Conv(4, (3, 2), padding="VALID", relu=True)
    theirs = nn.Conv(
        4, (3, 2), padding="VALID", kernel_init=layers.KERNEL_INITS["glorot_uniform"]
    )
    variables = theirs.init(jax.random.key(0), images)
    with operations.form(form):
        again = ours.init(jax.random.key(0), images)
        result: Any = ours.apply(variables, images)
    # Drawn alike, so that published runs begin as they did.
    jax.tree.map(np.testing.assert_array_equal, again, variables)
    expected: Any = theirs.apply(variables, images)
    np.testing.assert_allclose(result, np.maximum(expected, 0), atol=1e-5)


# -- pools


def draw_apart(shape, size=2):
    """Numbers of both signs; in a window no two are close, or rounding would choose."""
    rng = np.random.default_rng(0)
    batch, height, width, channels = shape
    rows, columns = -(-height // size), -(-width // size)
    full = (batch, rows, columns, channels)
    ranks = rng.permuted(
        np.broadcast_to(np.arange(size**2.0), (*full, size**2)), axis=-1
    )
    values = ranks + rng.uniform(-0.2, 0.2, ranks.shape)
    values += rng.uniform(-1.2 * size**2, 0, (*full, 1))
    values = values.reshape(*full, size, size).transpose(0, 1, 4, 2, 5, 3)
    values = values.reshape(batch, rows * size, columns * size, channels)
    return jnp.asarray(values[:, :height, :width], jnp.float32)


def pool_behind_relu(size, x):
    return operations.max_pool(nn.relu(x), size)


def pool_behind_norm(size, x, scale, bias):
    """As in the triple CNN."""
    norm = layers.BatchNorm()
    start = {"mean": jnp.zeros(x.shape[-1]), "var": jnp.ones(x.shape[-1])}
    x, _ = norm.apply(
        {"params": {"scale": scale, "bias": bias}, "batch_stats": start},
        nn.relu(x),
        use_running_average=False,
        mutable=["batch_stats"],
    )
    return operations.max_pool(x, size)


IN_USE = [((BATCH, 28, 28, 32), 2), ((BATCH, 14, 14, 64), 2), ((BATCH, 7, 7, 128), 2)]
ODD = [((3, 7, 9, 5), 2), ((3, 7, 11, 5), 3), ((2, 4, 4, 3), 1), ((9, 5, 6, 3), 4)]


@every_form
@pytest.mark.parametrize("shapes", [IN_USE, ODD], ids=["in use", "odd"])
def test_the_largest_of_a_window_is_that_of_the_plain_form(shapes, form):
    calls = [
        (functools.partial(pool_behind_relu, size), (draw_apart(shape, size),))
        for shape, size in shapes
    ]
    # Nothing is computed: each number goes where it goes in the plain form.
    ours = assert_agrees_with_plain(calls, form, 0)
    for result, (gradient,) in ours:
        # To one place a window, but for those that are all 0; both kinds are there.
        reached = np.count_nonzero(gradient)
        assert reached == np.count_nonzero(result)
        assert 0.05 * result.size < reached < result.size


@every_form
@pytest.mark.parametrize(
    "shapes", [*([each] for each in IN_USE), ODD], ids=["28", "14", "7", "odd"]
)
def test_it_is_so_behind_a_batchnorm(shapes, form):
    """Where a form that looks for the maximum among recomputed values finds none."""
    calls = []
    for shape, size in shapes:
        scale = 1 + 0.2 * draw(1, shape[-1:])
        # Of both signs: where it is negative, the smallest becomes the largest.
        scale = scale.at[::4].multiply(-1)
        args = draw_apart(shape, size), scale, draw(2, shape[-1:])
        calls.append((functools.partial(pool_behind_norm, size), args))
    assert_agrees_with_plain(calls, form, 2e-5)


# -- BatchNorm


def normalize(relu, *args):
    """The result and the moments, in one array."""
    y, *moments = operations.batch_norm(*args, epsilon=1e-3, relu=relu)
    return jnp.concatenate([y.reshape(-1, y.shape[-1]), jnp.stack(moments)])


@every_form
def test_a_batchnorm_is_that_of_the_plain_form(form):
    """Values and gradients, which also pass through the moments of the result."""
    calls = []
    for shape in [(5, 9, 8, 32), (BATCH, 16), (3, 5, 4, 3)]:
        args = 3 * draw(0, shape) + 1, draw(1, shape[-1:]), draw(2, shape[-1:])
        for relu in (False, True):
            calls.append((functools.partial(normalize, relu), args))
            apply = functools.partial(operations.scale_shift, relu=relu)
            calls.append((apply, args))
    assert_agrees_with_plain(calls, form, 2e-5)


# -- sums over places


def test_sums_over_places_are_sums():
    def spread(values, x):
        return operations.spread(values, x) * x

    calls: list[Any] = [
        (operations.sum_places, (draw(0, (BATCH, 14, 14, 64)),)),
        (operations.sum_places, (draw(0, (5, 3)),)),
        (spread, (draw(1, (3,)), draw(0, (2, 4, 5, 3)))),
    ]
    ours = assert_agrees_with_plain(calls, "cpu", 1e-5)
    x = np.asarray(draw(0, (BATCH, 14, 14, 64)), np.float64)
    np.testing.assert_allclose(ours[0][0], x.sum(axis=(0, 1, 2)), atol=5e-4)


# -- who computes


class Old:
    """Stands for the first onednn_jax, without BatchNorm."""

    class Unavailable(Exception):
        pass

    def __init__(self, problem=""):
        self.problem = problem

    def load(self, dtype):
        if self.problem:
            raise self.Unavailable(self.problem)
        return "3.2.0"


class Package(Old):
    """Stands for onednn_jax, where it can be used and where it cannot."""

    batch_norm = None


@pytest.fixture
def choose(monkeypatch):
    """Choose with a package that stands for onednn_jax, or with none."""

    def choose(asked, package, *, backend="cpu", **options):
        monkeypatch.setattr(jax, "default_backend", lambda: backend)
        monkeypatch.setattr(operations, "onednn_jax", package)
        return operations.choose(asked, dtype="float32", **options)

    return choose


def test_onednn_is_taken_where_it_can_be_used(choose):
    for asked in ("auto", "onednn"):
        assert choose(asked, Package()) == ("onednn", "oneDNN 3.2.0", "")
    assert choose("xla", Package()) == ("cpu", "XLA", "")
    assert choose("auto", Package(), begun_with="XLA") == ("cpu", "XLA", "")


@pytest.mark.parametrize(
    ("package", "backend", "form", "reason"),
    [
        (None, "cpu", "cpu", "make native"),
        (Package("it is damaged"), "cpu", "cpu", "it is damaged"),
        (Old(), "cpu", "cpu", "too old; `make native` updates it"),
        (Package(), "gpu", "plain", "for CPUs"),
    ],
    ids=["not installed", "damaged", "old", "no CPU"],
)
def test_otherwise_xla_is_unless_the_run_began_with_onednn(
    choose, package, backend, form, reason
):
    chosen = choose("auto", package, backend=backend)
    assert chosen[:2] == (form, "XLA")
    # On an accelerator, oneDNN is not missed.
    assert reason in chosen.reason if backend == "cpu" else not chosen.reason
    with pytest.raises(UserError, match=f"convolutions=onednn.*{reason}"):
        choose("onednn", package, backend=backend)
    begun = {"backend": backend, "begun_with": "oneDNN 3.2.0"}
    with pytest.raises(UserError, match=f"{reason}.*convolutions=xla continues"):
        choose("auto", package, **begun)
    assert choose("xla", package, **begun).name == "XLA"


# -- programs for other machines


POOLS = {"lenet5": 2, "triple_cnn": 3, "vgg16": 5}


@pytest.mark.parametrize("name", POOLS)
def test_the_plain_form_is_the_same_program_wherever_it_is_traced(name, monkeypatch):
    """Exported for accelerators on a CPU, it has their operations and no remedies."""
    model = models.create(Model(name), DIGITS)
    model = dataclasses.replace(model, convolutions="plain")

    def lowered(platform, backend):
        monkeypatch.setattr(jax, "default_backend", lambda: backend)
        variables = model.shapes
        images = jax.ShapeDtypeStruct((32, 28, 28, 1), jnp.float32)
        predict = jax.jit(lambda *args: model.apply(*args, train=False)[0].logits)
        exported = export.export(predict, platforms=[platform])
        return exported(*variables, images).mlir_module()

    params, _ = model.shapes
    convolutions = sum("conv" in layer for layer in params)
    for platform in ("cuda", "tpu"):
        program, other = [lowered(platform, backend) for backend in ("cpu", "gpu")]
        assert program == other
        assert program.count("= stablehlo.convolution(") == convolutions
        assert program.count('= "stablehlo.reduce_window"(') == POOLS[name]
        assert "custom_call" not in program
