"""The small networks in Keras, the report's as its tables give them, and their weights.

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


def alexnet() -> keras.Model:
    stack: list[layers.Layer] = []
    for layer, (channels, size) in enumerate(
        ((32, 5), (96, 5), (128, 3), (128, 3), (96, 3)), start=1
    ):
        options = {"padding": "same", "activation": "relu", "name": f"conv{layer}"}
        stack.append(layers.Conv2D(channels, size, **options))
        if layer in (1, 2, 5):
            stack.append(layers.MaxPooling2D(3, 2, padding="same"))
    stack.append(layers.Flatten())
    for layer, units in enumerate((384, 256), start=1):
        stack.append(layers.Dense(units, activation="relu", name=f"dense{layer}"))
    return _sequential(*stack)


def alexnet_owt(
    *, include_top: bool, weights: None, input_shape: tuple[int, int, int]
) -> keras.Model:
    """As `torchvision.models.alexnet().features` prints itself."""
    return keras.Sequential(
        [
            keras.Input(input_shape),
            layers.ZeroPadding2D(2),
            layers.Conv2D(64, 11, strides=4, activation="relu", name="conv1"),
            layers.MaxPooling2D(3, 2),
            layers.ZeroPadding2D(2),
            layers.Conv2D(192, 5, activation="relu", name="conv2"),
            layers.MaxPooling2D(3, 2),
            layers.ZeroPadding2D(1),
            layers.Conv2D(384, 3, activation="relu", name="conv3"),
            layers.ZeroPadding2D(1),
            layers.Conv2D(256, 3, activation="relu", name="conv4"),
            layers.ZeroPadding2D(1),
            layers.Conv2D(256, 3, activation="relu", name="conv5"),
            layers.MaxPooling2D(3, 2),
        ]
    )


def densenet() -> keras.Model:
    def add_channels(x, name):
        y = _conv(_norm_relu(x, f"{name}_norm1"), f"{name}_conv1", 64, 1)
        y = _conv(_norm_relu(y, f"{name}_norm2"), f"{name}_conv2", 16, 3)
        return layers.Concatenate()([x, y])

    images = keras.Input((28, 28, 1))
    x = layers.MaxPooling2D(2)(_conv(images, "stem_conv", 32, 5))
    for layer in range(1, 7):
        x = add_channels(x, f"block1_layer{layer}")
    x = _conv(_norm_relu(x, "transition1_norm"), "transition1_conv", 64, 1)
    x = layers.AveragePooling2D(2)(x)
    for layer in range(1, 9):
        x = add_channels(x, f"block2_layer{layer}")
    return keras.Model(images, _averaged(_norm_relu(x, "last_norm")))


def inception() -> keras.Model:
    """With the auxiliary logits."""

    def conv(x, name, channels, size):
        return _norm_relu(_conv(x, f"{name}_conv", channels, size), f"{name}_norm")

    def module(x, name, ones, reduced3, threes, reduced5, fives, pooled):
        first = conv(x, f"{name}_1x1", ones + reduced3 + reduced5, 1)
        branches = [
            first[..., :ones],
            conv(first[..., ones : ones + reduced3], f"{name}_3x3", threes, 3),
            conv(first[..., ones + reduced3 :], f"{name}_5x5", fives, 5),
            conv(layers.MaxPooling2D(3, 1, "same")(x), f"{name}_pool", pooled, 1),
        ]
        return layers.Concatenate()(branches)

    images = keras.Input((28, 28, 1))
    x = layers.MaxPooling2D(2)(conv(images, "stem1", 32, 5))
    x = conv(x, "stem2", 64, 3)
    x = module(x, "inception1", 32, 32, 48, 8, 16, 16)
    x = module(x, "inception2", 48, 48, 64, 12, 24, 24)
    y = conv(layers.AveragePooling2D(4)(x), "auxiliary", 64, 1)
    y = layers.Dense(128, "relu", name="auxiliary_dense")(layers.Flatten()(y))
    auxiliary = layers.Dense(10, name="auxiliary_logits")(y)
    x = layers.MaxPooling2D(2)(x)
    x = module(x, "inception3", 64, 64, 96, 16, 32, 32)
    x = module(x, "inception4", 80, 64, 128, 16, 32, 32)
    return keras.Model(images, [_averaged(x), auxiliary])


def resnet() -> keras.Model:
    images = keras.Input((28, 28, 1))
    x = _conv(images, "stem_conv", 32, 3)
    for stage, channels, strides in ((1, 32, 1), (2, 64, 2), (3, 128, 2)):
        for unit in (1,) if stage == 1 else (1, 2):
            name, strides = f"stage{stage}_unit{unit}", strides if unit == 1 else 1
            y = _norm_relu(x, f"{name}_norm1")
            shortcut = x
            if strides > 1:
                shortcut = _conv(y, f"{name}_shortcut", channels, 1, 2)
            y = _conv(y, f"{name}_conv1", channels, 3, strides)
            y = _norm_relu(y, f"{name}_norm2")
            y = _conv(y, f"{name}_conv2", channels, 3)
            x = layers.Add()([shortcut, y])
    return keras.Model(images, _averaged(_norm_relu(x, "last_norm")))


def xception() -> keras.Model:
    def separable(x, name, channels):
        options: Any = {"padding": "same", "use_bias": False, "name": name}
        x = layers.SeparableConv2D(channels, 3, **options)(x)
        return layers.BatchNormalization(name=f"{name}_bn")(x)

    images = x = keras.Input((28, 28, 1))
    for name, channels, strides in (("block1_conv1", 32, 1), ("block1_conv2", 64, 2)):
        x = _norm_relu(_conv(x, name, channels, 3, strides), f"{name}_bn")
    shortcut = _conv(x, "block2_shortcut", 128, 1, 2)
    shortcut = layers.BatchNormalization(name="block2_shortcut_bn")(shortcut)
    x = layers.ReLU()(separable(x, "block2_sepconv1", 128))
    x = separable(x, "block2_sepconv2", 128)
    x = layers.Add()([layers.MaxPooling2D(3, 2, "same")(x), shortcut])
    for block in (3, 4, 5):
        shortcut = x
        for layer in (1, 2, 3):
            x = separable(layers.ReLU()(x), f"block{block}_sepconv{layer}", 128)
        x = layers.Add()([x, shortcut])
    x = layers.ReLU()(separable(x, "block6_sepconv1", 192))
    x = layers.ReLU()(separable(x, "block6_sepconv2", 256))
    return keras.Model(images, _averaged(x))


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


def _conv(x: Any, name: str, channels: int, size: int, strides: int = 1) -> Any:
    options: Any = {"padding": "same", "use_bias": False, "name": name}
    return layers.Conv2D(channels, size, strides, **options)(x)


def _norm_relu(x: Any, name: str) -> Any:
    return layers.ReLU()(layers.BatchNormalization(name=name)(x))


def _averaged(x: Any) -> Any:
    """The logits of averages over all places."""
    return layers.Dense(10, name="logits")(layers.GlobalAveragePooling2D()(x))


def _sequential(*stack: layers.Layer) -> keras.Model:
    with like_keras(), zeros():
        return keras.Sequential(
            [keras.Input((28, 28, 1)), *stack, layers.Dense(10, name="logits")]
        )
