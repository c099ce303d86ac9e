"""Arrays arrive at their places under all the names that Keras has had for them."""

import re
import warnings
from pathlib import Path

import h5py
import numpy as np
import pytest

from mnist_jax import models, pretrained
from mnist_jax.config import Model
from mnist_jax.data import DIGITS
from mnist_jax.pretrained import keras_file, names
from mnist_jax.runs.weights import WeightsError
from tests.models.keras_models import keras, like_keras, zeros

OURS = {
    "gamma": "scale",
    "beta": "bias",
    "moving_mean": "mean",
    "moving_variance": "var",
    "depthwise_kernel": "depthwise/kernel",
    "pointwise_kernel": "pointwise/kernel",
}


@pytest.fixture(scope="module")
def keras_model():
    """A layer of each class, two of them in a model of their own; random weights."""
    inner = [
        keras.layers.SeparableConv2D(4, 3, name="separable"),
        keras.layers.BatchNormalization(name="norm"),
    ]
    with like_keras(), zeros():
        model = keras.Sequential(
            [
                keras.Input((8, 8, 3)),
                keras.layers.Conv2D(3, 3, use_bias=False, name="conv"),
                keras.layers.BatchNormalization(scale=False, name="unscaled"),
                keras.Sequential([keras.Input((6, 6, 3)), *inner], name="inner"),
                keras.layers.Dense(5, name="dense"),
            ]
        )
    rng = np.random.default_rng(0)
    for variable in model.variables:
        variable.assign(rng.normal(size=variable.shape))
    return model


@pytest.mark.parametrize("name", ["model.h5", "model.weights.h5", "model.keras"])
def test_every_layer_is_read_from_every_kind_of_file(name, keras_model, tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        save = keras_model.save_weights if "weights" in name else keras_model.save
        save(tmp_path / name)
    found = keras_file.read(tmp_path / name)
    expected = {
        f"{x.path.split('/')[-2]}/{OURS.get(x.name, x.name)}": x
        for x in keras_model.variables
    }
    assert found.keys() == expected.keys()
    assert len(found) == 13
    for place, variable in expected.items():
        value = np.asarray(variable)
        depthwise = place == "separable/depthwise/kernel"
        value = value.swapaxes(2, 3) if depthwise else value
        np.testing.assert_array_equal(found[place], value)


def write(path, groups):
    """Write arrays, each of one number, as Keras's versions 1 and 2 do."""
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = list(groups)
        for layer, arrays in groups.items():
            group = file.create_group(layer)
            group.attrs["weight_names"] = arrays
            for number, name in enumerate(arrays):
                group[name] = [number]
    return path


@pytest.mark.parametrize(
    ("layer", "arrays", "expected"),
    [
        # The published files of VGG16, Xception, DenseNet121 and Inception v3.
        ("c1", ("c1_W_1:0", "c1_b_1:0"), ("c1/kernel", "c1/bias")),
        (
            "n_1",
            ("n_1_gamma:0", "n_1_beta:0", "n_1_running_mean:0", "n_1_running_std:0"),
            ("n_1/scale", "n_1/bias", "n_1/mean", "n_1/var"),
        ),
        ("c1/bn", ("c1/bn/gamma:0", "c1/bn/beta:0"), ("c1_bn/scale", "c1_bn/bias")),
        ("c_9", ("c_9/kernel:0",), ("c_9/kernel",)),
        # The second model of a session.
        ("c_9", ("c_9_1/kernel:0", "c_9_1/bias:0"), ("c_9/kernel", "c_9/bias")),
    ],
)
def test_names_of_older_versions(layer, arrays, expected, tmp_path):
    found = keras_file.read(write(tmp_path / "x.h5", {layer: arrays}))
    assert {name: int(value[0]) for name, value in found.items()} == {
        name: number for number, name in enumerate(expected)
    }


# In the order in which Keras creates them.
LAYERS = ("stem", "stem_bn", "conv2d", "batch_normalization")
LAYERS += ("sep1/depthwise", "sep1/pointwise", "sep1_bn", "conv2d_1", "logits")
KNOWN = {
    f"{name}/{array}": (1,) * axes
    for name, array, axes in (
        *(("stem", "kernel", 4), ("stem_bn", "mean", 1), ("conv2d", "kernel", 4)),
        *(("batch_normalization", "mean", 1), ("sep1/depthwise", "kernel", 4)),
        *(("sep1/pointwise", "kernel", 4), ("sep1_bn", "mean", 1)),
        *(("conv2d_1", "kernel", 4), ("logits", "kernel", 2)),
    )
}


def test_layers_that_have_only_numbers_are_ours_in_order():
    """Counted from 1, as in the file that Keras publishes for Xception."""
    theirs = {
        "convolution2d_1/kernel": "stem/kernel",
        "convolution2d_2/kernel": "conv2d/kernel",
        "convolution2d_3/kernel": "conv2d_1/kernel",
        "batchnormalization_1/mean": "stem_bn/mean",
        "batchnormalization_2/mean": "batch_normalization/mean",
        "batchnormalization_3/mean": "sep1_bn/mean",
        "separableconvolution2d_1/depthwise/kernel": "sep1/depthwise/kernel",
        "separableconvolution2d_1/pointwise/kernel": "sep1/pointwise/kernel",
        "convolution2d_4/kernel": "convolution2d_4/kernel",  # has no place
    }
    found = rename({name: np.array(name) for name in reversed(theirs)})
    assert {str(name): ours for ours, name in found.items()} == theirs


def rename(tensors):
    return names.to_ours(tensors, network="x", layers=LAYERS[:-1], known=KNOWN)


def test_numbers_continue_those_of_a_session_and_gaps_stay():
    """A file without `conv2d_95` lacks our `conv2d`, and has `conv2d_1`."""
    named = ("stem/kernel", "stem_bn/mean", "sep1/depthwise/kernel", "sep1_bn/mean")
    session = dict.fromkeys((*named, "conv2d_94/kernel"), np.zeros(1))
    assert rename(session | {"conv2d_95/kernel": np.ones(1)}).keys() == {
        *named,
        "conv2d/kernel",
        "conv2d_1/kernel",
    }
    with_gap = session | {"conv2d_96/kernel": np.ones(1)}
    assert rename(with_gap).keys() == {*named, "conv2d/kernel", "conv2d_96/kernel"}


@pytest.mark.parametrize("wrapper", ["module.", "_orig_mod.", "model._orig_mod."])
def test_names_of_modules_around_the_network_are_removed(wrapper):
    """As DataParallel, torch.compile and Lightning add them."""
    tensors = {"features.0.weight": np.ones(1), "model2.bias": np.zeros(1)}
    wrapped = {wrapper + name: tensor for name, tensor in tensors.items()}
    assert names.unwrap(wrapped, Path("x")) == tensors == names.unwrap(tensors, Path())
    with pytest.raises(WeightsError, match="x has several tensors of the same name"):
        names.unwrap(tensors | wrapped, Path("x"))


@pytest.mark.parametrize("name", ["predictions", "fc1000", "probs", "dense_2"])
def test_the_classifier_of_a_file_with_its_top_is_ignored(name):
    assert rename(
        {f"{name}/kernel": np.zeros(1), "stem/kernel": np.ones(1)}
    ).keys() == {"stem/kernel"}


@pytest.mark.parametrize(
    ("layer", "network"),
    [
        ("conv2_block1_3_bn", "ResNet50, version 1"),
        ("bn2a_branch2a", None),
        ("block3_conv4", "VGG19"),
        ("block2_sepconv1", "xception_v1"),
        ("separableconvolution2d_34", "xception_v1"),
        ("conv2d_94", "inception_v3"),
        ("conv2_block1_0_bn", "densenet121"),
    ],
)
def test_a_file_of_another_published_network_is_named(layer, network, tmp_path):
    path = write(tmp_path / "x.h5", {layer: [f"{layer}/kernel:0"]})
    config = Model("vgg16", pretrained=str(path), pretrained_layers=("block",))
    with pytest.raises(WeightsError) as caught:
        pretrained.load(config, models.create(config, DIGITS))
    line, *others = str(caught.value).splitlines()
    if network:
        assert re.search(f"x.h5 has the weights of {network}, but .* is vgg16", line)
        assert len(others) == 1  # the way out
    else:
        assert any("missing" in line and "block1_conv1" in line for line in others)
