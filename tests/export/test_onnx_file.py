"""ONNX: what ONNX Runtime computes is what JAX computes, operation by operation."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

pytest.importorskip("onnx", reason="onnx is not installed")
onnxruntime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")

from mnist_jax import models  # noqa: E402
from mnist_jax.errors import UserError  # noqa: E402
from mnist_jax.export import graph, network, onnx_file  # noqa: E402
from mnist_jax.export.graph import UnsupportedError  # noqa: E402

pytestmark = pytest.mark.usefixtures("little_optimized")

NETWORKS = [
    *((name, {}) for name in sorted(models.MODELS)),
    ("vgg16", {"preprocess": "imagenet", "input_size": 40}),
    ("vgg16", {"preprocess": "torch"}),
]


def run_onnx(content, images):
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    return session.run(None, {"images": images})[0]


@pytest.mark.parametrize(("name", "options"), NETWORKS)
def test_every_network_predicts_as_its_run(name, options, make_run, images):
    run = make_run(name, **options)
    traced = graph.trace(*network.make_logits(run), network.INPUT_SHAPE)
    content = onnx_file.to_bytes(traced, metadata={})
    expected = run.predict(images[:20])
    found = run_onnx(content, images[:20])
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)
    np.testing.assert_array_equal(found.argmax(1), expected.argmax(1))
    assert np.ptp(expected, axis=0).max() > 1e-3
    one = run_onnx(content, images[:1])
    np.testing.assert_allclose(one, expected[:1], rtol=0, atol=1e-5)
    if "input_size" not in options:  # scaled by Einsum: onnxruntime 1.24 crashes
        assert run_onnx(content, images[:0]).shape == (0, 10)


KERNEL = jnp.sin(jnp.arange(144.0)).reshape(3, 2, 6, 4)
NHWC = ("NHWC", "HWIO", "NHWC")


def conv(x, **kwargs):
    return lax.conv_general_dilated(x, KERNEL, dimension_numbers=NHWC, **kwargs)


def pool(x, start, function, padding):
    return lax.reduce_window(x, start, function, (1, 3, 2, 1), (1, 2, 1, 1), padding)


# Each of x, float32 [n, 5, 4, 6] in 0.1..1.1.
OPERATIONS = {
    "activations": lambda x: (
        jnp.tanh(x) + jnp.exp(-x) + jnp.log(x) * jnp.sqrt(x) + jnp.abs(x - 0.5)
    ),
    "gelu": lambda x: jax.nn.gelu(x - 0.5, approximate=False),
    "silu": lambda x: jax.nn.silu(x) + lax.rsqrt(x),
    "checkpoint": lambda x: jax.checkpoint(jnp.tanh)(x),
    "powers": lambda x: x**3 + jnp.square(x) + lax.pow(x, jnp.full_like(x, 1.5)),
    "limits": lambda x: jnp.minimum(jnp.maximum(x - 0.6, 0), 0.2) + jax.nn.relu6(9 * x),
    "divide": lambda x: 1 / x - x / jnp.arange(1.0, 7.0)[None, None, None],
    "conv same": lambda x: conv(x, window_strides=(1, 1), padding="SAME"),
    "conv strides": lambda x: conv(
        x, window_strides=(2, 1), padding=((0, 1), (2, 0)), rhs_dilation=(1, 2)
    ),
    "conv groups": lambda x: lax.conv_general_dilated(
        x,
        KERNEL[:, :, :2, :3],
        (1, 1),
        "VALID",
        dimension_numbers=NHWC,
        feature_group_count=3,
    ),
    "max pool": lambda x: pool(-x, -jnp.inf, lax.max, "VALID"),
    "max pool same": lambda x: pool(-x, -jnp.inf, lax.max, "SAME"),
    "sum pool": lambda x: pool(x, 0.0, lax.add, "VALID"),
    "sum pool same": lambda x: pool(x, 0.0, lax.add, "SAME"),
    "concatenate": lambda x: jnp.concatenate(
        [conv(x, window_strides=(1, 1), padding="SAME"), x], axis=-1
    ),
    "pad": lambda x: lax.pad(x, 2.5, ((0, 0, 0), (1, 2, 0), (-1, 0, 0), (0, 1, 0))),
    "transpose": lambda x: jnp.transpose(
        conv(x, window_strides=(1, 1), padding="SAME"), (0, 2, 3, 1)
    ),
    "repeat": lambda x: jnp.repeat(x, 2, axis=-1),
    "global mean": lambda x: x.mean(axis=(1, 2)) - x.max(axis=(1, 2)),
    "squeeze": lambda x: x.sum(axis=3, keepdims=True).squeeze(3).reshape(-1, 20),
    "dense": lambda x: x.reshape(-1, 120) @ jnp.sin(jnp.arange(360.0)).reshape(120, 3),
    "matrices": lambda x: jnp.einsum("nhwc,nhvc->nhwv", x, jnp.tanh(x)),
    "softmax": lambda x: 9 * jax.nn.softmax(x.reshape(-1, 120), axis=-1),
}


@pytest.mark.parametrize("name", OPERATIONS)
def test_every_operation_computes_what_jax_does(name):
    def function(_, images):
        x = (images.astype(jnp.float32) / 255 + 0.1).reshape(-1, 5, 4, 6)
        return OPERATIONS[name](x).reshape(images.shape[0], -1)

    images = np.random.default_rng(0).integers(0, 256, (3, 5, 24), np.uint8)
    content = onnx_file.to_bytes(graph.trace(function, {}, (5, 24)), metadata={})
    expected = jax.nn.softmax(function({}, images), axis=-1)
    found = run_onnx(content, images)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-7)
    assert np.ptp(expected) > 1e-4


def test_what_cannot_be_translated_is_named():
    def function(_, images):
        return jnp.sort(images / 255.0, axis=-1)

    with pytest.raises(UnsupportedError, match=r"ONNX: .* sort of \[None, 6\].*stable"):
        onnx_file.to_bytes(graph.trace(function, {}, (6,)), metadata={})


def test_a_runtime_that_computes_something_else_is_noticed(make_run):
    run = make_run("lenet5")
    traced = graph.trace(*network.make_logits(run), network.INPUT_SHAPE)
    content = onnx_file.to_bytes(traced, metadata={})
    right = network.make_probabilities(run)
    onnx_file.check(content, right)
    with pytest.raises(UserError, match="other probabilities than JAX, by "):
        onnx_file.check(content, lambda images: 1.01 * right(images))
