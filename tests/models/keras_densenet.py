"""The small DenseNet in Keras."""

import keras
from keras import layers


def densenet() -> keras.Model:
    def activate(x, name):
        return layers.ReLU()(layers.BatchNormalization(name=name)(x))

    def conv(channels, size, name):
        return layers.Conv2D(channels, size, padding="same", use_bias=False, name=name)

    images = keras.Input((28, 28, 1))
    x = layers.MaxPooling2D(2)(conv(32, 5, "stem_conv")(images))
    for layer in range(1, 7):
        x = _layer(x, f"block1_layer{layer}", activate, conv)
    x = conv(64, 1, "transition1_conv")(activate(x, "transition1_norm"))
    x = layers.AveragePooling2D(2)(x)
    for layer in range(1, 9):
        x = _layer(x, f"block2_layer{layer}", activate, conv)
    x = layers.GlobalAveragePooling2D()(activate(x, "last_norm"))
    return keras.Model(images, layers.Dense(10, name="logits")(x))


def _layer(x, name, activate, conv):
    y = conv(64, 1, f"{name}_conv1")(activate(x, f"{name}_norm1"))
    y = conv(16, 3, f"{name}_conv2")(activate(y, f"{name}_norm2"))
    return layers.Concatenate()([x, y])
