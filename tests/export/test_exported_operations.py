"""Operations of networks: ONNX Runtime and the page compute them as JAX does."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from mnist_jax.export import graph, web_page
from mnist_jax.export.graph import UnsupportedError

pytestmark = pytest.mark.usefixtures("little_optimized")

KERNEL = jnp.sin(jnp.arange(144.0)).reshape(3, 2, 6, 4)
NHWC = ("NHWC", "HWIO", "NHWC")


def conv(x, kernel=KERNEL, strides=(1, 1), padding: Any = "SAME", groups=1):
    return lax.conv_general_dilated(
        x,
        kernel,
        strides,
        padding,
        dimension_numbers=NHWC,
        feature_group_count=groups,
    )


def pool(x, start, function, padding, strides=(1, 2, 1, 1)):
    return lax.reduce_window(x, start, function, (1, 3, 2, 1), strides, padding)


def mean_of_neighbours(x):
    """As in Keras: padding does not count."""
    counts = pool(jnp.ones_like(x), 0.0, lax.add, "SAME")
    return pool(x, 0.0, lax.add, "SAME") / counts


def route(x):
    """Routing by agreement (Sabour, Frosst, Hinton 2017): softmax of zeros first."""
    x = x.reshape(-1, 20, 6)
    votes = jnp.einsum(
        "nic,icjd->injd", x, jnp.cos(jnp.arange(1920.0)).reshape(20, 6, 4, 4)
    )
    logits, capsules = jnp.zeros(votes.shape[:3]), x
    for _ in range(2):
        total = (jax.nn.softmax(logits)[..., None] * votes).sum(0)
        length = jnp.sqrt(jnp.square(total).sum(-1, keepdims=True))
        capsules = total * length / (1 + length**2)
        logits = logits + (votes * capsules[None]).sum(-1)
    return capsules


# Each of x, float32 [n, 5, 4, 6] in 0.1..1.1.
OPERATIONS = {
    "activations": lambda x: (
        jnp.tanh(x) + jnp.exp(-x) + jnp.log(x) * jnp.sqrt(x) + jnp.abs(x - 0.5)
    ),
    "gelu": lambda x: jax.nn.gelu(x - 0.5, approximate=False) + jax.nn.gelu(x),
    "silu": lambda x: jax.nn.silu(x) + lax.rsqrt(x),
    "elu": lambda x: jax.nn.elu(x - 0.5) + jax.nn.leaky_relu(x - 0.6),
    "softplus": lambda x: jax.nn.softplus(x) * jax.nn.hard_swish(6 * x - 3),
    "checkpoint": lambda x: jax.checkpoint(jnp.tanh)(x),
    "powers": lambda x: x**3 + jnp.square(x) + lax.pow(x, jnp.full_like(x, 1.5)),
    "limits": lambda x: jnp.minimum(jnp.maximum(x - 0.6, 0), 0.2) + jax.nn.relu6(9 * x),
    "divide": lambda x: 1 / x - x / jnp.arange(1.0, 7.0)[None, None, None],
    "conv same": conv,
    "conv strides": lambda x: conv(x, strides=(2, 1), padding=((0, 1), (2, 0))),
    "conv groups": lambda x: conv(x, KERNEL[:, :, :2, :3], groups=3, padding="VALID"),
    "conv depthwise": lambda x: conv(x, jnp.tile(KERNEL[:, :, :1], 3), groups=6),
    "max pool": lambda x: pool(-x, -jnp.inf, lax.max, "VALID"),
    "max pool same": lambda x: pool(-x, -jnp.inf, lax.max, "SAME", (1, 2, 2, 1)),
    "sum pool": lambda x: pool(x, 0.0, lax.add, "VALID"),
    "sum pool same": lambda x: pool(x, 0.0, lax.add, "SAME"),
    "mean pool same": mean_of_neighbours,
    "concatenate": lambda x: jnp.concatenate([conv(x), x], axis=-1),
    "pad": lambda x: jnp.pad(x, ((0, 0), (1, 2), (0, 3), (0, 0)), constant_values=0.25),
    "pad channels": lambda x: jnp.pad(x, ((0, 0), (0, 0), (1, 0), (2, 2))),
    "slices": lambda x: jnp.concatenate(
        [lax.slice_in_dim(x, 0, 5, 2, axis=1)[:, :, 1:, 2:5], x[:, 1:4, :3, 1:4]], 1
    ),
    "split": lambda x: jnp.multiply(*jnp.split(x, (1, 4, 5), axis=-1)[::3]),
    "one hot": lambda x: x * jax.nn.one_hot(x.argmax(-1), 6),
    "routing": route,
    "transpose": lambda x: jnp.transpose(conv(x), (0, 2, 3, 1)),
    "repeat": lambda x: jnp.repeat(x, 2, axis=-1),
    "squeeze and excite": lambda x: (
        x * jax.nn.sigmoid(x.mean(axis=(1, 2)) - x.max(axis=(1, 2)))[:, None, None]
    ),
    "norm": lambda x: (x - x.mean(-1, keepdims=True)) / x.std(-1, keepdims=True),
    "squeeze": lambda x: x.sum(axis=3, keepdims=True).squeeze(3).reshape(-1, 20),
    "dense": lambda x: x.reshape(-1, 120) @ jnp.sin(jnp.arange(360.0)).reshape(120, 3),
    "matrices": lambda x: jnp.einsum("nhwc,nhvc->nhwv", x, jnp.tanh(x)),
    "attention": lambda x: jnp.einsum("nhwv,nhuv->nhwu", jax.nn.softmax(x), x),
    "softmax": lambda x: 9 * jax.nn.softmax(x.reshape(-1, 120), axis=-1),
}


def function_of(name):
    def function(_, images):
        x = (images.astype(jnp.float32) / 255 + 0.1).reshape(-1, 5, 4, 6)
        x = OPERATIONS[name](x).reshape(images.shape[0], -1)
        return x @ jnp.cos(jnp.arange(3.0 * x.shape[1])).reshape(x.shape[1], 3)

    return function


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).integers(0, 256, (3, 5, 24), np.uint8)


@pytest.mark.parametrize("name", OPERATIONS)
def test_onnx_runtime_computes_every_operation(name, images, predict_onnx):
    from mnist_jax.export import onnx_file

    traced = graph.trace(function_of(name), {}, (5, 24))
    found = predict_onnx(onnx_file.to_bytes(traced, metadata={}), images)
    expected = jax.nn.softmax(function_of(name)({}, images), axis=-1)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)
    assert np.ptp(expected) > 1e-4


def test_the_page_computes_every_operation(images, predict_pages, monkeypatch):
    monkeypatch.setattr(web_page, "SHAPE", (5, 24))
    pages = [
        web_page.to_bytes(
            graph.trace(function_of(name), {}, (5, 24), count=1),
            classes=tuple("abc"),
            facts={},
        )
        for name in OPERATIONS
    ]
    for name, found in zip(OPERATIONS, predict_pages(pages, images), strict=True):
        expected = jax.nn.softmax(function_of(name)({}, images), axis=-1)
        np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-5, err_msg=name)


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda x: lax.fori_loop(0, 3, lambda _, y: y * x, x), "scan"),
        (lambda x: lax.top_k(x, 2)[0], "top_k"),
        (
            lambda x: jnp.broadcast_to(jnp.arange(6.0), x.shape).reshape(-1, 24),
            "reshape .* of a repeated constant",
        ),
        (lambda x: x + jnp.ones_like(x).sum(0)[None], "reduce_sum .* of a repeated"),
        (
            lambda x: x + lax.iota(jnp.float32, len(x))[:, None, None],
            "iota .*number of",
        ),
        (lambda x: jnp.ones((4, 6)), "ignores images"),
    ],
)
def test_what_is_no_list_of_operations_is_refused(function, message):
    with pytest.raises(UnsupportedError, match=message):
        graph.trace(lambda _, images: function(images / 255.0), {}, (4, 6))
