"""The small AlexNet in Keras."""

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
