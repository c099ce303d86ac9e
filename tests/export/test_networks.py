"""Every exported network predicts as its run does."""

import dataclasses

import jax
import jax.export
import numpy as np
import pytest

from mnist_jax import export, models
from mnist_jax.config import Model
from mnist_jax.data import DIGITS
from mnist_jax.errors import UserError
from mnist_jax.export import graph, network, web_page
from mnist_jax.export.graph import Constant, UnsupportedError
from mnist_jax.runs.load import load
from tests.support.networks import SMALL

pytestmark = pytest.mark.usefixtures("little_optimized")

OWN = [f"tests.support.own_nets:{name}" for name in ("MLP", "FlaxCNN", "TwoOutputs")]
# Of the published networks, those that are traced in a second or two.
SHORTEST = ("alexnet_owt", "resnet50v2", "vgg16")
NETWORKS = [
    *((name, {}) for name in SMALL),
    ("vgg16", {"preprocess": "imagenet", "input_size": 40}),
    ("vgg16", {"preprocess": "torch"}),
    *((name, {}) for name in OWN),
]


@pytest.mark.parametrize(("name", "options"), NETWORKS)
def test_onnx_predicts_as_the_run(
    name, options, make_run, images, predict_onnx, monkeypatch
):
    run = make_run(name, **options)
    if name in models.MODELS:  # once is enough, and costs less
        monkeypatch.setattr("mnist_jax.export.onnx_file.check", lambda *_: None)
    content = export.FORMATS["onnx"].make(run)
    expected = run.predict(images[:20])
    found = predict_onnx(content, images[:20])
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)
    np.testing.assert_array_equal(found.argmax(1), expected.argmax(1))
    assert np.ptp(expected, axis=0).max() > 1e-3
    one = predict_onnx(content, images[:1])
    np.testing.assert_allclose(one, expected[:1], rtol=0, atol=1e-5)
    if "input_size" not in options:  # scaled by Einsum: onnxruntime 1.24 crashes
        assert predict_onnx(content, images[:0]).shape == (0, len(run.classes))


def test_the_page_predicts_as_the_run(make_run, images, predict_pages):
    runs = [make_run(name) for name in (*SMALL, *OWN) if name != "vgg16"]
    pages = [export.FORMATS["html"].make(run) for run in runs]
    found = predict_pages(pages, images[:20])
    for run, each in zip(runs, found, strict=True):
        expected = run.predict(images[:20])
        np.testing.assert_allclose(each, expected, rtol=0, atol=1e-5)
        assert np.ptp(expected, axis=0).max() > 1e-3


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=() if name in SHORTEST else pytest.mark.exhaustive)
        for name in sorted(models.MODELS.keys() - SMALL | {"vgg16"})
    ],
)
def test_onnx_has_every_operation_of_a_published_network(name):
    from mnist_jax.export import onnx_file

    model = models.create(Model(name), DIGITS)
    params, batch_stats = jax.tree.map(
        lambda x: np.zeros(x.shape, x.dtype), model.shapes
    )
    run = dataclasses.replace(
        load(), model=model, params=params, batch_stats=batch_stats
    )
    traced = graph.trace(*network.make_logits(run), (28, 28))
    assert len(onnx_file.to_bytes(traced, metadata={})) > 8_000_000
    with pytest.raises(UserError, match=r"would have \d+ MB, and 8 is the most"):
        export.FORMATS["html"].make(run)


def test_stablehlo_predicts_as_the_run(make_run, images):
    pytest.importorskip("flatbuffers", reason="flatbuffers is not installed")
    run = make_run(OWN[-1])
    read = jax.export.deserialize(bytearray(export.FORMATS["stablehlo"].make(run)))
    assert read.platforms == ("cpu", "cuda", "tpu")
    for count in (1, 20):
        found, expected = read.call(images[:count]), run.predict(images[:count])
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)


def test_parameters_keep_their_names(make_run):
    traced = graph.trace(*network.make_logits(make_run("fast_cnn")), (28, 28))
    operands = [x for operation in traced.operations for x in operation.inputs]
    names = {x.name for x in operands if isinstance(x, Constant)}
    assert {"conv1/kernel", "conv2/kernel", "conv3/kernel", "logits/kernel"} <= names


def test_a_runtime_that_computes_something_else_is_noticed(make_run, predict_onnx):
    from mnist_jax.export import onnx_file

    run = make_run("lenet5")
    content = export.FORMATS["onnx"].make(run)
    right = network.make_probabilities(run)
    with pytest.raises(UserError, match="other probabilities than JAX, by "):
        onnx_file.check(content, lambda images: 1.01 * right(images), (28, 28))


def test_a_network_that_a_page_cannot_compute_is_refused():
    traced = graph.trace(lambda _, x: x.reshape(1, -1) / 255.0, {}, (32, 32), count=1)
    with pytest.raises(UserError, match="28x28 grey images, not 32x32."):
        web_page.to_bytes(traced, classes=("a",), facts={})
    traced = graph.trace(
        lambda _, x: (x / 255.0).cumsum(axis=1).reshape(1, -1), {}, (28, 28), count=1
    )
    with pytest.raises(UnsupportedError, match="cumsum.*stablehlo"):
        web_page.to_bytes(traced, classes=("a",), facts={})
