"""The published networks and `keras.applications`: names, shapes, and features."""

import functools
import importlib
import json
import warnings
from pathlib import Path
from typing import Any

import flax.traverse_util
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import save_file

from mnist_jax import models, pretrained, tree
from mnist_jax.config import Model
from mnist_jax.data import DIGITS
from mnist_jax.models import imagenet
from mnist_jax.pretrained import names
from mnist_jax.runs import weights as run_weights
from tests.models.keras_models import (
    alexnet_owt,
    keras,
    like_keras,
    name_of,
    set_weights,
    values,
    zeros,
)
from tests.support.networks import SMALL

pytestmark = pytest.mark.usefixtures("little_optimized")

# In Keras, by our names.
KERAS = {
    "alexnet_owt": alexnet_owt,
    "densenet121": keras.applications.DenseNet121,
    "inception_v3": keras.applications.InceptionV3,
    "resnet50v2": keras.applications.ResNet50V2,
    "xception_v1": keras.applications.Xception,
}
# (trainable, BatchNorm statistics)
PARAMETERS = {
    "alexnet_owt": (2_606_410, 0),
    "densenet121": (7_567_434 - 83_648, 83_648),
    "inception_v3": (22_857_002 - 34_432, 34_432),
    "resnet50v2": (24_619_018 - 45_440, 45_440),
    "xception_v1": (21_915_698 - 54_528, 54_528),
}
every_network = pytest.mark.parametrize("name", sorted(models.MODELS.keys() - SMALL))


def create(name):
    return models.create(Model(name), DIGITS)


@functools.cache
def keras_body(name):
    """Return Keras's own network without top, in a fresh session."""
    keras.utils.clear_session()
    side = create(name).module.input_size
    with like_keras(), zeros():
        build = KERAS[name]
        return build(include_top=False, weights=None, input_shape=(side, side, 3))


@every_network
def test_the_body_s_names_and_shapes_are_keras_s(name):
    model, body = create(name), keras_body(name)
    trees = dict(zip(("params", "batch_stats"), model.shapes, strict=True))
    ours: Any = flax.traverse_util.flatten_dict(trees, sep="/")
    head = {x: ours.pop(x) for x in list(ours) if x.split("/")[1] in model.stages[-1]}
    assert len(head) == 4
    theirs = {}
    for variable in body.variables:
        shape = tuple(variable.shape)
        if variable.name == "depthwise_kernel":
            shape = (*shape[:2], shape[3], shape[2])
        theirs[name_of(variable)] = shape
    assert {name: leaf.shape for name, leaf in ours.items()} == theirs
    assert tuple(map(tree.count_parameters, model.shapes)) == PARAMETERS[name]
    # Every layer is in a stage, and in one only.
    stages = [layer for stage in model.stages for layer in stage]
    assert sorted(stages) == sorted(tree.layers(trees["params"]))


def draw(path, leaf):
    rng = np.random.default_rng(sum(map(ord, jax.tree_util.keystr(path))))
    kernel = np.sqrt(2 / np.prod(leaf.shape[:-1]))
    around, spread = {
        "kernel": (0.0, kernel),
        "bias": (0.0, 0.1),
        "scale": (1.0, 0.1),
        "mean": (0.0, 0.1),
        "var": (1.0, 0.1),
    }[path[-1].key]
    drawn = np.clip(rng.standard_normal(leaf.shape, np.float32), -3, 3)
    return (drawn * spread + around).astype(leaf.dtype)


@functools.cache
def pair(name):
    """Our model, weights drawn at random, and Keras's body with the same."""
    model, body = create(name), keras_body(name)
    params, batch_stats = jax.tree_util.tree_map_with_path(draw, model.shapes)
    inside = {layer for stage in model.stages[:-1] for layer in stage}
    inside = {layer.partition("/")[0] for layer in inside}
    set_weights(body, {k: params[k] for k in inside}, batch_stats)
    return model, params, batch_stats, body


@every_network
def test_features_are_keras_s_and_stages_compose(name):
    """With BatchNorm's statistics drawn at random, too."""
    model, params, batch_stats, body = pair(name)
    images = np.random.default_rng(0).uniform(0, 1, (2, 7, 7, 1))
    images = jnp.asarray(images.repeat(4, 1).repeat(4, 2), jnp.float32)
    last, middle = len(model.stages) - 1, len(model.stages) // 2

    def ours(params, batch_stats):
        part = model.run_until(middle, params, batch_stats, images)
        (logits, _), _ = model.apply(
            params, batch_stats, part, train=False, start=middle
        )
        whole = model.run_until(last, params, batch_stats, images)
        (whole_logits, _), _ = model.apply(
            params, batch_stats, whole, train=False, start=last
        )
        return whole, logits, whole_logits

    features, logits, whole_logits = jax.jit(ours)(params, batch_stats)
    side = model.module.input_size
    prepared = imagenet.prepare(images, size=side, scale=model.module.scale)
    with like_keras():
        expected, _ = jax.jit(
            lambda *v: body.stateless_call(*v, prepared, training=False)
        )(*values(body))
    scale = np.abs(expected).max()
    # The images' features differ by a hundred times the error that is allowed.
    assert np.abs(expected[0] - expected[1]).max() > 1e-2 * scale
    np.testing.assert_allclose(features, expected, rtol=0, atol=1e-4 * scale)
    np.testing.assert_allclose(logits, whole_logits, rtol=1e-4)


@pytest.mark.parametrize(
    "file",
    [
        "body.h5",
        pytest.param("body.weights.h5", marks=pytest.mark.exhaustive),
        pytest.param("body.keras", marks=pytest.mark.exhaustive),
    ],
)
@every_network
def test_every_array_of_a_file_of_keras_s_arrives(name, file, tmp_path):
    model, params, batch_stats, body = pair(name)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        (body.save_weights if "weights" in file else body.save)(tmp_path / file)
    config = Model(
        name,
        pretrained=str(tmp_path / file),
        pretrained_layers=("(?!dense1/|logits/)",),
    )
    weights = pretrained.load(config, model)
    assert weights is not None
    drawn = jax.tree.map(np.zeros_like, (params, batch_stats))
    found = run_weights.named(*weights.put(*drawn))
    head = {f"{layer}/{x}" for layer in model.stages[-1] for x in ("kernel", "bias")}
    for place, array in run_weights.named(params, batch_stats).items():
        expected = np.zeros_like(array) if place in head else array
        np.testing.assert_array_equal(found[place], expected)


def test_keras_creates_the_layers_of_xception_in_the_order_of_the_stages(monkeypatch):
    """The file that it publishes numbers all of them, by class, and names none."""

    class Unnamed:
        """Keras's layers without the names that they are given."""

        def __getattr__(self, name):
            create = getattr(keras.layers, name)
            known = isinstance(create, type)
            return lambda *args, **options: create(
                *args, **(options | {"name": None} if known else options)
            )

    model, named = create("xception_v1"), keras_body("xception_v1")
    module = importlib.import_module("keras.src.applications.xception")
    monkeypatch.setattr(module, "layers", Unnamed())
    with like_keras(), zeros():
        keras.utils.clear_session()
        numbered = module.Xception(False, None, input_shape=(71, 71, 3))
    kinds = {
        "kernel": "kernel",
        "gamma": "mean",
        "depthwise_kernel": "depthwise/kernel",
    }
    theirs = {
        f"{layer.name}/{kinds[layer.variables[0].name]}": np.array(same.name)
        for layer, same in zip(numbered.layers, named.layers, strict=True)
        if layer.variables
    }
    assert len(theirs) == 80
    ours = names.to_ours(
        theirs,
        network=model.name,
        layers=[layer for stage in model.stages[:-1] for layer in stage],
        known=run_weights.shapes(model),
    )
    assert all(place.startswith(f"{name}/") for place, name in ours.items())


# -- AlexNet, whose features of an image by PyTorch are in a file


FEATURES = json.loads(Path(__file__).with_name("torch_alexnet.json").read_text())
# By torchvision's names, [channels out, channels in, height, width].
KERNELS = {
    "features.0": (64, 3, 11, 11),
    "features.3": (192, 64, 5, 5),
    "features.6": (384, 192, 3, 3),
    "features.8": (256, 384, 3, 3),
    "features.10": (256, 256, 3, 3),
}


def test_features_are_pytorch_s_with_the_same_file_of_weights(tmp_path):
    """The same, too, are the enlargement of the image and its statistics."""
    rng, tensors = np.random.RandomState(0), {}  # whose numbers never change
    for name, shape in KERNELS.items():
        kernel = rng.standard_normal(shape) * np.sqrt(2 / np.prod(shape[1:]))
        tensors[f"{name}.weight"] = kernel.astype(np.float32)
        bias = 0.1 * rng.standard_normal(shape[0])
        tensors[f"{name}.bias"] = bias.astype(np.float32)
    image = rng.uniform(0, 1, (1, 7, 7, 1)).repeat(4, axis=1).repeat(4, axis=2)
    tensors["classifier.6.bias"] = np.zeros(1000, np.float32)
    save_file(tensors, tmp_path / "alexnet.safetensors")
    given = Model(
        "alexnet_owt",
        pretrained=str(tmp_path / "alexnet.safetensors"),
        pretrained_layers=("conv",),
    )
    model = models.create(given, DIGITS)
    weights = pretrained.load(given, model)
    assert weights is not None and len(weights.arrays) == 10
    params = {
        layer: {x: jnp.asarray(weights.arrays[f"{layer}/{x}"]) for x in variables}
        for layer, variables in model.shapes[0].items()
        if layer.startswith("conv")
    }
    found = model.run_until(5, params, {}, jnp.asarray(image, jnp.float32))
    np.testing.assert_allclose(np.ravel(found), FEATURES["features"], atol=1e-4)
