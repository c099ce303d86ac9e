"""The small AlexNet in Keras, and torchvision's."""

import keras
from keras import layers


def alexnet() -> keras.Model:
    stack: list[layers.Layer] = []
    for layer, (channels, size) in enumerate(
        ((32, 5), (96, 5), (128, 3), (128, 3), (96, 3)), start=1
    ):
        stack.append(
            layers.Conv2D(
                channels, size, padding="same", activation="relu", name=f"conv{layer}"
            )
        )
        if layer in (1, 2, 5):
            stack.append(layers.MaxPooling2D(3, 2, padding="same"))
    stack.append(layers.Flatten())
    for layer, units in enumerate((384, 256), start=1):
        stack.append(layers.Dense(units, activation="relu", name=f"dense{layer}"))
    return keras.Sequential(
        [keras.Input((28, 28, 1)), *stack, layers.Dense(10, name="logits")]
    )


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
