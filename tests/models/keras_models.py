"""The networks in Keras, the report's as its tables give them; weights carried over.

Without dropout: what Keras draws is not what JAX draws.
"""

import contextlib
import os
from collections.abc import Iterator
from typing import Any

import flax.traverse_util
import jax
import numpy as np
import pytest

os.environ.setdefault("KERAS_BACKEND", "jax")
import keras  # reads the variable
from keras import layers

from tests.models.keras_alexnet import alexnet
from tests.models.keras_alexnet import alexnet_owt as alexnet_owt
from tests.models.keras_densenet import densenet
from tests.models.keras_inception import inception
from tests.models.keras_resnet import resnet
from tests.models.keras_xception import xception


def lenet5() -> keras.Model:
    return _sequential(
        layers.ZeroPadding2D(2),
        layers.Conv2D(6, 5, activation="tanh", name="conv1"),
        layers.AveragePooling2D(2),
        layers.Conv2D(16, 5, activation="tanh", name="conv2"),
        layers.AveragePooling2D(2),
        layers.Flatten(),
        layers.Dense(120, activation="tanh", name="dense1"),
        layers.Dense(84, activation="tanh", name="dense2"),
    )


def double_cnn() -> keras.Model:
    return _sequential(
        *_relu_convolutions(1, 32, 5),
        layers.MaxPooling2D(2),
        *_relu_convolutions(2, 64, 3),
        layers.MaxPooling2D(2),
        layers.Flatten(),
        layers.Dense(256, activation="relu", name="dense1"),
    )


def triple_cnn() -> keras.Model:
    stack: list[layers.Layer] = []
    for block, channels in enumerate((32, 64, 128), start=1):
        stack += [
            *_relu_convolutions(block, channels, 3),
            layers.BatchNormalization(name=f"block{block}_norm"),
            layers.MaxPooling2D(2),
        ]
    stack.append(layers.Flatten())
    for layer, units in enumerate((512, 256, 64), start=1):
        stack += [
            layers.Dense(units, activation="relu", name=f"dense{layer}"),
            layers.BatchNormalization(name=f"dense{layer}_norm"),
        ]
    return _sequential(*stack)


def fast_cnn() -> keras.Model:
    stack: list[layers.Layer] = []
    for layer, (channels, size) in enumerate(((8, 5), (32, 3), (64, 3)), start=1):
        stack += [
            layers.Conv2D(
                channels, size, padding="same", use_bias=False, name=f"conv{layer}"
            ),
            layers.MaxPooling2D(2),
            layers.BatchNormalization(name=f"norm{layer}"),
            layers.ReLU(),
        ]
    return _sequential(*stack, layers.Flatten())


def vgg16() -> keras.Model:
    """With Keras's own convolutions, of `keras.applications`."""
    with like_keras(), zeros():
        images = keras.Input((28, 28, 1))
        x = layers.ZeroPadding2D(2)(images)
        x = layers.Concatenate()([x, x, x])
        body = keras.applications.VGG16(include_top=False, weights=None, input_tensor=x)
        x = layers.Flatten()(body.output)
        x = layers.Dense(512, activation="relu", name="dense1")(x)
        return keras.Model(images, layers.Dense(10, name="logits")(x))


KERAS_MODELS = {
    "alexnet": alexnet,
    "densenet": densenet,
    "double_cnn": double_cnn,
    "fast_cnn": fast_cnn,
    "inception": inception,
    "lenet5": lenet5,
    "resnet": resnet,
    "triple_cnn": triple_cnn,
    "vgg16": vgg16,
    "xception": xception,
}

# What a layer's variables are called in Keras and, in which tree, here.
_NAMES = {
    "kernel": ("params", "kernel"),
    "depthwise_kernel": ("params", "depthwise/kernel"),
    "pointwise_kernel": ("params", "pointwise/kernel"),
    "bias": ("params", "bias"),
    "gamma": ("params", "scale"),
    "beta": ("params", "bias"),
    "moving_mean": ("batch_stats", "mean"),
    "moving_variance": ("batch_stats", "var"),
}


def like_keras() -> Any:
    """A context in which Keras may add a bias to a batch, as it does all the time."""
    return jax.numpy_rank_promotion("allow")


@contextlib.contextmanager
def zeros() -> Iterator[None]:
    """Have kernels start as zeros, since drawing compiles a program for each shape."""
    with pytest.MonkeyPatch.context() as patch:
        start = keras.initializers.Zeros.__call__
        patch.setattr(keras.initializers.GlorotUniform, "__call__", start)
        yield


def set_weights(model: keras.Model, params: Any, batch_stats: Any) -> None:
    """Give a Keras model our weights; it has a place for each of them."""
    trees = {"params": params, "batch_stats": batch_stats}
    flat = flax.traverse_util.flatten_dict(trees, sep="/")
    for variable in model.variables:
        # A depthwise kernel is [3, 3, channels, 1] in Keras, [3, 3, 1, channels] here.
        variable.assign(np.asarray(flat[name_of(variable)]).reshape(variable.shape))
    assert len(model.variables) == len(flat), f"{len(flat)} arrays"


def as_trees(variables: Any, values: Any) -> tuple[Any, Any]:
    """Arrange values of Keras's variables as our `(params, batch_stats)`."""
    flat = {}
    for variable, value in zip(variables, values, strict=True):
        depthwise = variable.name == "depthwise_kernel"
        value = np.swapaxes(value, 2, 3) if depthwise else np.asarray(value)
        flat[name_of(variable)] = value
    trees = flax.traverse_util.unflatten_dict(flat, sep="/")
    return trees.get("params", {}), trees.get("batch_stats", {})


def values(model: keras.Model) -> tuple[list[Any], list[Any]]:
    """Return what `stateless_call` wants: values of trainable variables, of others."""
    return (
        [variable.value for variable in model.trainable_variables],
        [variable.value for variable in model.non_trainable_variables],
    )


def name_of(variable: Any) -> str:
    """Return our name of a variable: `params/block1_conv1/kernel`."""
    layer = variable.path.split("/")[-2]
    tree, name = _NAMES[variable.name]
    return f"{tree}/{layer}/{name}"


def _relu_convolutions(block: int, channels: int, size: int) -> list[layers.Layer]:
    return [
        layers.Conv2D(
            channels,
            size,
            padding="same",
            activation="relu",
            name=f"block{block}_conv{layer}",
        )
        for layer in (1, 2)
    ]


def _sequential(*stack: layers.Layer) -> keras.Model:
    with like_keras(), zeros():
        return keras.Sequential(
            [keras.Input((28, 28, 1)), *stack, layers.Dense(10, name="logits")]
        )
