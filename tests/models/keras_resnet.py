"""The small ResNet in Keras."""

import keras
from keras import layers


def resnet() -> keras.Model:
    def activate(x, name):
        return layers.ReLU()(layers.BatchNormalization(name=name)(x))

    def conv(channels, size, strides, name):
        return layers.Conv2D(
            channels, size, strides, padding="same", use_bias=False, name=name
        )

    images = keras.Input((28, 28, 1))
    x = conv(32, 3, 1, "stem_conv")(images)
    for stage, channels, strides in ((1, 32, 1), (2, 64, 2), (3, 128, 2)):
        for unit in (1,) if stage == 1 else (1, 2):
            name, strides = f"stage{stage}_unit{unit}", strides if unit == 1 else 1
            y = activate(x, f"{name}_norm1")
            shortcut = conv(channels, 1, 2, f"{name}_shortcut")(y) if strides > 1 else x
            y = conv(channels, 3, strides, f"{name}_conv1")(y)
            y = activate(y, f"{name}_norm2")
            x = layers.Add()([shortcut, conv(channels, 3, 1, f"{name}_conv2")(y)])
    x = layers.GlobalAveragePooling2D()(activate(x, "last_norm"))
    return keras.Model(images, layers.Dense(10, name="logits")(x))
