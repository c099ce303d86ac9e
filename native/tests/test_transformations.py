"""JAX's transformations, and threads, give what plain calls give."""

import threading
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import onednn_jax
import pytest
from laws import (
    assert_close,
    assert_same,
    draw,
    plain_conv,
    plain_norm,
    plain_pool,
    quick_jit,
)

IMAGES, KERNEL, BIAS = draw(0, 13, 12, 12, 8), draw(1, 3, 3, 8, 16), draw(2, 16)


def network(
    images: jax.Array, kernel: jax.Array, bias: jax.Array, average: Any = lambda x: x
) -> jax.Array:
    """Return a number that depends on all operations."""
    y = onednn_jax.conv(images, kernel, bias, relu=True)
    y = onednn_jax.conv(y, kernel[:, :, :1], strides=(2, 1), groups=y.shape[3])
    y, mean, var = onednn_jax.batch_norm(
        y, 1 + bias, bias, epsilon=1e-3, relu=True, average=average
    )
    y = onednn_jax.scale_shift(y, 1 + mean, var)
    return (onednn_jax.max_pool(y, 3, 2, "SAME") ** 2).mean()


def plain_network(images: jax.Array, kernel: jax.Array, bias: jax.Array) -> jax.Array:
    y = plain_conv(images, kernel, bias, relu=True)
    y = plain_conv(y, kernel[:, :, :1], strides=(2, 1), groups=y.shape[3])
    y, *moments = plain_norm(y, 1 + bias, bias, relu=True)
    mean, var = (jax.lax.stop_gradient(x)[None, None, None] for x in moments)
    return (plain_pool(y * (1 + mean) + var, 3, 2, "SAME") ** 2).mean()


GRADIENT = jax.value_and_grad(network, argnums=(0, 1, 2))
COMPILED = jax.jit(GRADIENT)


def test_the_same_call_gives_the_same_bits() -> None:
    first = COMPILED(IMAGES, KERNEL, BIAS)
    for _ in range(10):
        assert_same(COMPILED(IMAGES, KERNEL, BIAS), first)
    expected = jax.jit(jax.value_and_grad(plain_network, (0, 1, 2)))(
        IMAGES, KERNEL, BIAS
    )
    assert_close(first, expected, 2e-5)


def test_jit_changes_no_bit() -> None:
    def run(images: jax.Array, kernel: jax.Array, bias: jax.Array) -> Any:
        def ours(*arrays: jax.Array) -> jax.Array:
            return onednn_jax.max_pool(onednn_jax.conv(*arrays, relu=True), 2)

        out, backward = jax.vjp(ours, images, kernel, bias)
        return out, backward(out)

    assert_same(jax.jit(run)(IMAGES, KERNEL, BIAS), run(IMAGES, KERNEL, BIAS))


def test_scan_equals_single_steps() -> None:
    def step(kernel: jax.Array, images: jax.Array) -> tuple[jax.Array, jax.Array]:
        loss, gradient = jax.value_and_grad(network, argnums=1)(images, kernel, BIAS)
        return kernel - 0.5 * gradient, loss

    batches = draw(3, 20, 6, 12, 12, 8)
    whole = jax.jit(lambda kernel: jax.lax.scan(step, kernel, batches))(KERNEL)
    kernel, losses, one = KERNEL, [], jax.jit(step)
    for images in batches:
        kernel, loss = one(kernel, images)
        losses.append(loss)
    assert_same(whole, (kernel, jnp.stack(losses)))
    assert (kernel != KERNEL).any()


@pytest.mark.parametrize("axes", [(0, None, None), (None, 0, None), (0, 0, 0)])
def test_vmap_equals_a_loop(axes: tuple[int | None, ...]) -> None:
    """Values and gradients."""
    arrays = [
        jnp.stack([x, 2 * x, -x]) if axis == 0 else x
        for x, axis in zip((IMAGES, KERNEL, BIAS), axes, strict=True)
    ]
    mapped = jax.jit(jax.vmap(GRADIENT, axes))(*arrays)
    for i in range(3):
        one = [
            x if axis is None else x[i] for x, axis in zip(arrays, axes, strict=True)
        ]
        assert_close(jax.tree.map(lambda x, i=i: x[i], mapped), COMPILED(*one), 1e-5)


def test_gradient_of_vmap() -> None:
    images = jnp.stack([IMAGES, -IMAGES])

    def total(kernel: jax.Array) -> jax.Array:
        return jax.vmap(network, (0, None, None))(images, kernel, BIAS).sum()

    pair = [COMPILED(x, KERNEL, BIAS)[1][1] for x in images]
    assert_close(quick_jit(jax.grad(total))(KERNEL), pair[0] + pair[1], 1e-5)


def test_checkpoint_changes_no_bit() -> None:
    again = jax.jit(jax.value_and_grad(jax.checkpoint(network), argnums=(0, 1, 2)))
    assert_same(again(IMAGES, KERNEL, BIAS), COMPILED(IMAGES, KERNEL, BIAS))


@pytest.mark.parametrize(
    "argument, there, gone",
    [
        (0, "conv_backward_images", "conv_backward_kernel"),
        (1, "conv_backward_kernel", "conv_backward_images"),
        (2, "conv_backward_kernel", "conv_backward_images"),
    ],
)
def test_a_gradient_that_nobody_needs_is_not_computed(
    argument: int, there: str, gone: str
) -> None:
    def loss(*arrays: jax.Array) -> jax.Array:
        return (onednn_jax.conv(*arrays, relu=True) ** 2).mean()

    compiled = jax.jit(jax.grad(loss, argument)).lower(IMAGES, KERNEL, BIAS).compile()
    text = compiled.as_text()
    assert text is not None and there in text and gone not in text


@pytest.mark.parametrize("how", ["jvp", "linearize"])
def test_forward_mode_is_refused(how: str) -> None:
    """By JAX, with a message of its own; this is documented."""
    with pytest.raises(TypeError, match="forward-mode autodiff .* custom_vjp"):
        if how == "jvp":
            jax.jvp(onednn_jax.conv, (IMAGES, KERNEL), (IMAGES, KERNEL))
        else:
            _, push = jax.linearize(lambda x: onednn_jax.max_pool(x, 2), IMAGES)
            push(IMAGES)


def test_threads_at_once() -> None:
    """Six threads of Python, each with another kernel, get what each gets alone."""
    run = COMPILED
    kernels = [KERNEL * (i + 1) for i in range(6)]
    alone = [run(IMAGES, kernel, BIAS) for kernel in kernels]
    errors: list[BaseException] = []

    def work(i: int) -> None:
        try:
            for _ in range(20):
                assert_same(run(IMAGES, kernels[i], BIAS), alone[i])
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors


PROGRAM = """
import functools
import jax, jax.numpy as jnp
import onednn_jax
from laws import assert_close, assert_same, draw
from test_transformations import COMPILED, network, plain_network

onednn_jax.load()
arrays = draw(0, 16, 12, 12, 8), draw(1, 3, 3, 8, 16), draw(2, 16)
run = COMPILED
expected = jax.jit(jax.value_and_grad(plain_network, (0, 1, 2)))(*arrays)
"""
HERE = str(Path(__file__).parent)


def test_pmap_over_two_devices(python: Any) -> None:
    program = """
assert jax.device_count() == 2
images, kernel, bias = arrays
halves = images.reshape(2, 8, *images.shape[1:])
average = functools.partial(jax.lax.pmean, axis_name="i")
gradient = jax.value_and_grad(functools.partial(network, average=average), (0, 1, 2))
loss, (x, k, b) = jax.pmap(gradient, "i", in_axes=(0, None, None))(halves, kernel, bias)
mean = loss.mean(), (x.reshape(images.shape) / 2, k.mean(0), b.mean(0))
assert_close(mean, expected, 2e-5)

from jax.sharding import Mesh, PartitionSpec as P
mesh = Mesh(jax.devices(), "i")
mapped = jax.shard_map(
    lambda *arrays: average(gradient(*arrays)[1][1:]), mesh=mesh,
    in_specs=(P("i"), P(), P()), out_specs=P(), check_vma=False,
)
assert_close(jax.jit(mapped)(*arrays), expected[1][1:], 2e-5)
print("right")
"""
    flags = "--xla_force_host_platform_device_count=2"
    assert python(PROGRAM + program, PYTHONPATH=HERE, XLA_FLAGS=flags) == "right"


@pytest.mark.parametrize("threads", ["1", "64"])
def test_any_number_of_threads(python: Any, threads: str) -> None:
    """One thread, and far more than images or cores; the end comes while they work."""
    program = """
first = run(*arrays)
assert_close(first, expected, 2e-5)
for _ in range(20):
    assert_same(run(*arrays), first)
big = jnp.ones((64, 28, 28, 32)), jnp.ones((5, 5, 32, 32)), jnp.ones(32)
for _ in range(5):
    jax.jit(network)(*big)
print("right")
"""
    assert python(PROGRAM + program, PYTHONPATH=HERE, NPROC=threads) == "right"


def test_no_other_threads_are_started(python: Any) -> None:
    """A team of OpenMP's would compete with XLA's threads for the cores."""
    program = """
import os
count = lambda: len(os.listdir("/proc/self/task"))
before = count()  # XLA's have been at work
jax.block_until_ready(run(*arrays))
big = jnp.ones((8, 4, 4, 128)), jnp.ones((3, 3, 128, 128)), jnp.ones(128)
jax.block_until_ready(run(*big))
print(count() - before)
"""
    assert (
        python(PROGRAM + program, PYTHONPATH=HERE, NPROC="4", OMP_NUM_THREADS="4")
        == "0"
    )
