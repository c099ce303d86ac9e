"""The small Xception in Keras."""

import keras
from keras import layers


def xception() -> keras.Model:
    images = x = keras.Input((28, 28, 1))
    for name, channels, strides in (("block1_conv1", 32, 1), ("block1_conv2", 64, 2)):
        x = layers.ReLU()(_conv(x, name, channels, 3, strides))
    shortcut = _conv(x, "block2_shortcut", 128, 1, 2)
    x = layers.ReLU()(_separable(x, "block2_sepconv1", 128))
    x = _separable(x, "block2_sepconv2", 128)
    x = layers.Add()([layers.MaxPooling2D(3, 2, "same")(x), shortcut])
    for block in (3, 4, 5):
        shortcut = x
        for layer in (1, 2, 3):
            x = _separable(layers.ReLU()(x), f"block{block}_sepconv{layer}", 128)
        x = layers.Add()([x, shortcut])
    x = layers.ReLU()(_separable(x, "block6_sepconv1", 192))
    x = layers.ReLU()(_separable(x, "block6_sepconv2", 256))
    x = layers.GlobalAveragePooling2D()(x)
    return keras.Model(images, layers.Dense(10, name="logits")(x))


def _conv(x, name, channels, size, strides):
    conv = layers.Conv2D(
        channels, size, strides, padding="same", use_bias=False, name=name
    )
    return layers.BatchNormalization(name=f"{name}_bn")(conv(x))


def _separable(x, name, channels):
    conv = layers.SeparableConv2D(
        channels, 3, padding="same", use_bias=False, name=name
    )
    return layers.BatchNormalization(name=f"{name}_bn")(conv(x))
