"""The small Inception in Keras, which gives the auxiliary logits too."""

import keras
from keras import layers


def inception() -> keras.Model:
    images = keras.Input((28, 28, 1))
    x = layers.MaxPooling2D(2)(_conv(images, "stem1", 32, 5))
    x = _conv(x, "stem2", 64, 3)
    x = _module(x, "inception1", 32, 32, 48, 8, 16, 16)
    x = _module(x, "inception2", 48, 48, 64, 12, 24, 24)
    y = _conv(layers.AveragePooling2D(4)(x), "auxiliary", 64, 1)
    y = layers.Dense(128, "relu", name="auxiliary_dense")(layers.Flatten()(y))
    auxiliary = layers.Dense(10, name="auxiliary_logits")(y)
    x = layers.MaxPooling2D(2)(x)
    x = _module(x, "inception3", 64, 64, 96, 16, 32, 32)
    x = _module(x, "inception4", 80, 64, 128, 16, 32, 32)
    x = layers.GlobalAveragePooling2D()(x)
    return keras.Model(images, [layers.Dense(10, name="logits")(x), auxiliary])


def _module(x, name, ones, reduced3, threes, reduced5, fives, pooled):
    first = _conv(x, f"{name}_1x1", ones + reduced3 + reduced5, 1)
    branches = [
        first[..., :ones],
        _conv(first[..., ones : ones + reduced3], f"{name}_3x3", threes, 3),
        _conv(first[..., ones + reduced3 :], f"{name}_5x5", fives, 5),
        _conv(layers.MaxPooling2D(3, 1, "same")(x), f"{name}_pool", pooled, 1),
    ]
    return layers.Concatenate()(branches)


def _conv(x, name, channels, size):
    conv = layers.Conv2D(
        channels, size, padding="same", use_bias=False, name=f"{name}_conv"
    )
    return layers.ReLU()(layers.BatchNormalization(name=f"{name}_norm")(conv(x)))
