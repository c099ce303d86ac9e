"""What networks are made of: the CPU's forms against the plain ones, and dropout.

Both forms are jitted with the loop's options, as they are used: XLA fuses a form with
what stands before it, which has once lost half of a gradient.
"""

import contextlib
import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from scipy import stats

from mnist_jax.models import layers
from mnist_jax.training.compiler import compiler_options

BATCH = 86


@contextlib.contextmanager
def as_if(on_cpu):
    """Trace the forms for the CPU, or the plain ones."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(layers, "_on_cpu", lambda: on_cpu)
        yield


def values_and_gradients(calls, on_cpu):
    """Of the products of the results with fixed random arrays, in one program.

    Args:
        calls: functions, each with its arguments.
        on_cpu: which form they are to take.

    Returns:
        Of each call, the result and the gradients by its arguments.
    """

    def run(every, factors):
        results = []
        for (function, _), args, factor in zip(calls, every, factors, strict=True):
            result, backward = jax.vjp(function, *args)
            results.append((result, backward(factor)))
        return results

    compiled = jax.jit(run, compiler_options=compiler_options())
    with as_if(on_cpu):
        every = [args for _, args in calls]
        shapes = [jax.eval_shape(function, *args).shape for function, args in calls]
        factors = [draw(9, shape) for shape in shapes]
        return jax.tree.map(np.asarray, compiled(every, factors))


def draw(seed, shape):
    return jnp.asarray(np.random.default_rng(seed).standard_normal(shape), jnp.float32)


def assert_forms_agree(calls, tolerance):
    """Equal to within a share of the largest number of each array.

    Returns:
        What the calls gave.
    """
    ours, plain = (values_and_gradients(calls, on_cpu) for on_cpu in (True, False))
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
        ((BATCH, 28, 28, 1), (5, 5, 1, 32), "SAME"),
        ((BATCH, 28, 28, 1), (3, 3, 1, 32), "SAME"),
    ],
    # SAME with an even kernel pads more on one side.
    "odd": [
        ((3, 9, 7, 1), (3, 2, 1, 4), "VALID"),
        ((3, 9, 7, 1), (2, 4, 1, 4), "SAME"),
        ((1, 5, 8, 1), (1, 1, 1, 1), "SAME"),
        ((2, 2, 3, 1), (2, 3, 1, 3), "VALID"),
        ((2, 2, 1, 1), (3, 3, 1, 3), "SAME"),
        ((2, 6, 5, 1), (2, 3, 1, 2), [(1, 2), (0, 3)]),
    ],
    # Images smaller than the kernel: VGG's last block, with fewer channels.
    "small": [
        ((8, 2, 2, 64), (3, 3, 64, 64), "SAME"),
        ((3, 2, 5, 8), (3, 3, 8, 4), "SAME"),
        ((3, 4, 1, 8), (3, 2, 8, 4), "SAME"),
    ],
}


@pytest.mark.parametrize("which", CONVOLUTIONS)
def test_convolution_by_patches_is_a_convolution(which):
    def convolve(padding, images, kernel):
        return layers.conv(
            images,
            kernel,
            (1, 1),
            padding,
            lhs_dilation=(1, 1),
            rhs_dilation=(1, 1),
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
        )

    calls = [
        (functools.partial(convolve, padding), (draw(0, images), draw(1, kernel)))
        for images, kernel, padding in CONVOLUTIONS[which]
    ]
    # Sums over a batch's every place, in another order.
    assert_forms_agree(calls, 1e-5)


class Took(Exception):
    """The patches' form."""


FIELDS = {
    "grey": ({}, 1),
    "strides": ({"strides": 2}, 1),
    "strides in one direction": ({"strides": (1, 2)}, 1),
    "dilated kernel": ({"kernel_dilation": (2, 1)}, 1),
    "dilated input": ({"input_dilation": (1, 2)}, 1),
    "channels": ({}, 2),
    "groups": ({"feature_group_count": 2}, 2),
}


@pytest.mark.parametrize("what", FIELDS)
@pytest.mark.parametrize("on_cpu", [True, False])
@pytest.mark.parametrize("padding", ["SAME", "VALID"])
def test_only_plain_convolutions_of_one_channel_have_another_form(
    what, on_cpu, padding, monkeypatch
):
    fields, channels = FIELDS[what]
    if what == "dilated input":  # For which JAX refuses words.
        padding = [(1, 1), (1, 1)] if padding == "SAME" else [(0, 0), (0, 0)]
    images = draw(0, (2, 9, 8, channels))
    ours = layers.Conv(4, (3, 3), padding=padding, **fields)
    theirs = nn.Conv(4, (3, 3), padding=padding, **fields)
    variables = theirs.init(jax.random.key(0), images)
    with as_if(on_cpu):
        result = ours.apply(variables, images)
    expected = theirs.apply(variables, images)
    np.testing.assert_allclose(np.asarray(result), np.asarray(expected), atol=1e-5)

    def took(*args):
        raise Took

    monkeypatch.setattr(layers, "_conv_by_patches", took)
    other = (
        pytest.raises(Took) if on_cpu and what == "grey" else contextlib.nullcontext()
    )
    with other, as_if(on_cpu):
        ours.apply(variables, images)


@pytest.mark.parametrize("on_cpu", [True, False])
@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("size", [2, 3])
def test_images_smaller_than_the_kernel_have_it_too(size, groups, on_cpu, monkeypatch):
    def took(*args):
        raise Took

    monkeypatch.setattr(layers, "_conv_by_patches", took)
    convolve = layers.Conv(4, (3, 3), padding="SAME", feature_group_count=groups)
    expected = on_cpu and groups == 1 and size == 2
    other = pytest.raises(Took) if expected else contextlib.nullcontext()
    with other, as_if(on_cpu):
        convolve.init(jax.random.key(0), draw(0, (2, size, 5, 4)))


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
    return layers.max_pool(nn.relu(x), size)


def pool_behind_norm(size, x, scale, bias):
    """As in the triple CNN."""
    norm = layers.BatchNorm(use_running_average=False)
    start = {"mean": jnp.zeros(x.shape[-1]), "var": jnp.ones(x.shape[-1])}
    x, _ = norm.apply(
        {"params": {"scale": scale, "bias": bias}, "batch_stats": start},
        nn.relu(x),
        mutable=["batch_stats"],
    )
    return layers.max_pool(x, size)


IN_USE = [((BATCH, 28, 28, 32), 2), ((BATCH, 14, 14, 64), 2), ((BATCH, 7, 7, 128), 2)]
ODD = [((3, 7, 9, 5), 2), ((3, 7, 11, 5), 3), ((2, 4, 4, 3), 1), ((9, 5, 6, 3), 4)]


@pytest.mark.parametrize("shapes", [IN_USE, ODD], ids=["in use", "odd"])
def test_the_largest_of_a_window_is_that_of_the_plain_form(shapes):
    calls = [
        (functools.partial(pool_behind_relu, size), (draw_apart(shape, size),))
        for shape, size in shapes
    ]
    # Nothing is computed: each number goes where it goes in the plain form.
    ours = assert_forms_agree(calls, 0)
    for result, (gradient,) in ours:
        # To one place a window, but for those that are all 0; both kinds are there.
        reached = np.count_nonzero(gradient)
        assert reached == np.count_nonzero(result)
        assert 0.05 * result.size < reached < result.size


@pytest.mark.parametrize(
    "shapes", [*([each] for each in IN_USE), ODD], ids=["28", "14", "7", "odd"]
)
def test_it_is_so_behind_a_batchnorm(shapes):
    """Where a form that looks for the maximum among recomputed values finds none."""
    calls = []
    for shape, size in shapes:
        scale = 1 + 0.2 * draw(1, shape[-1:])
        # Of both signs: where it is negative, the smallest becomes the largest.
        scale = scale.at[::4].multiply(-1)
        args = draw_apart(shape, size), scale, draw(2, shape[-1:])
        calls.append((functools.partial(pool_behind_norm, size), args))
    assert_forms_agree(calls, 2e-5)


@pytest.mark.parametrize("on_cpu", [True, False])
@pytest.mark.parametrize(("shape", "size"), ODD)
def test_pools_have_their_definition_in_numpy(shape, size, on_cpu):
    """Windows side by side; what is beyond the last whole one is left out."""
    x = draw(0, shape)
    rows, columns = shape[1] // size, shape[2] // size
    whole = np.asarray(x)[:, : rows * size, : columns * size]
    windows = whole.reshape(shape[0], rows, size, columns, size, shape[3])
    with as_if(on_cpu):
        largest, average = layers.max_pool(x, size), layers.average_pool(x, size)
    np.testing.assert_array_equal(largest, windows.max(axis=(2, 4)))
    np.testing.assert_allclose(average, windows.mean(axis=(2, 4)), atol=1e-6)


# -- dropout

# Whole 256ths, and rates that are none.
EXACT, OTHER = (0.25, 0.5, 1 / 256, 0.625, 255 / 256), (0.1, 0.3, 0.4, 0.999)
rates = pytest.mark.parametrize("rate", [*EXACT, *OTHER])


@pytest.fixture(scope="module")
def ones():
    return jnp.ones((128, 64, 128))


def drop(rate, x, *, train=True, seed=0) -> Any:
    rngs = {"dropout": jax.random.key(seed)}
    return layers.Dropout(rate).apply({}, x, train=train, rngs=rngs)


def assert_share(hits, share):
    """A test that a right implementation fails for one seed of a million."""
    test = stats.binomtest(int(hits.sum()), hits.size, share)
    assert test.pvalue > 1e-6, (test.statistic, share)


@rates
def test_dropout_keeps_its_share_and_scales_it_up(rate, ones):
    dropped = np.asarray(drop(rate, 3 * ones))
    kept = dropped != 0
    assert_share(kept, 1 - rate)
    np.testing.assert_allclose(dropped[kept], 3 / (1 - rate), rtol=1e-6)


@rates
def test_dropout_lets_the_gradient_through_where_it_kept(rate):
    x = 1 + draw(0, (16, 32)) ** 2
    gradient = jax.grad(lambda x: drop(rate, x).sum())(x)
    np.testing.assert_allclose(gradient, drop(rate, x) / x, rtol=1e-6)


@rates
def test_dropout_decides_for_each_position_alone(rate, ones):
    """Neighbours in every direction, and halves that a short counter would repeat."""
    kept = np.asarray(drop(rate, ones)) != 0
    for axis in range(3):
        for distance in (1, 2, 4, kept.shape[axis] // 2):
            first, second = np.split(
                np.moveaxis(kept, axis, 0)[
                    : kept.shape[axis] // (2 * distance) * 2 * distance
                ].reshape(-1, 2, distance, kept.size // kept.shape[axis]),
                2,
                axis=1,
            )
            assert_share(first & second, (1 - rate) ** 2)
            assert_share(first & ~second, rate * (1 - rate))


@rates
def test_dropout_draws_by_its_key(rate, ones):
    first, again = (np.asarray(drop(rate, ones, seed=1)) for _ in range(2))
    np.testing.assert_array_equal(first, again)
    other = np.asarray(drop(rate, ones, seed=2))
    assert_share((first != 0) & (other != 0), (1 - rate) ** 2)


@rates
def test_dropout_is_the_identity_in_evaluation(rate):
    """Without a key, too."""
    x = draw(0, (4, 5))
    np.testing.assert_array_equal(drop(rate, x, train=False), x)
    np.testing.assert_array_equal(
        layers.Dropout(rate).apply({}, x, train=False),  # type: ignore[arg-type]
        x,
    )


def test_no_dropout_is_the_identity_in_training():
    x = draw(0, (4, 5))
    np.testing.assert_array_equal(drop(0.0, x), x)


def test_layers_of_a_network_drop_apart(ones):
    class Two(nn.Module):
        @nn.compact
        def __call__(self, x):
            return layers.Dropout(0.5)(x, train=True), layers.Dropout(0.5)(
                x, train=True
            )

    first, second = Two().apply({}, ones, rngs={"dropout": jax.random.key(0)})
    assert_share(np.asarray(first != 0) & np.asarray(second != 0), 0.25)


@pytest.mark.parametrize("number", [1, 64, 128, 192, 255])
def test_a_share_of_256ths_is_exact(number, monkeypatch):
    """Of the 256 bytes that can be drawn, so many are kept."""
    every = jnp.arange(256, dtype=jnp.uint8)
    monkeypatch.setattr(jax.random, "bits", lambda key, shape, dtype: every)
    mask = layers.draw_mask(jax.random.key(0), number / 256, (256,))
    assert int(mask.sum()) == number


# -- plain arithmetic


def test_convolution_has_its_definition_in_numpy():
    """A few places of it, by hand: the forms could be wrong together."""
    images, kernel = draw(0, (2, 6, 5, 1)), draw(1, (3, 2, 1, 4))
    with as_if(True):
        result = np.asarray(layers.conv(images, kernel, (1, 1), "VALID"))
    assert result.shape == (2, 4, 4, 4)
    for row, column in np.ndindex(4, 4):
        window = np.asarray(images)[:, row : row + 3, column : column + 2]
        by_hand = np.einsum("bhwc,hwcd->bd", window, np.asarray(kernel))
        np.testing.assert_allclose(result[:, row, column], by_hand, atol=1e-5)


def test_lax_is_the_plain_form(monkeypatch):
    calls = []
    original = lax.conv_general_dilated

    def noting(*args, **kwargs):
        calls.append(kwargs)
        return original(*args, **kwargs)

    monkeypatch.setattr(lax, "conv_general_dilated", noting)
    x = draw(0, (2, 6, 5, 4))
    layers.Conv(4, (3, 3), feature_group_count=2).init(jax.random.key(0), x)
    assert calls and calls[-1]["feature_group_count"] == 2
