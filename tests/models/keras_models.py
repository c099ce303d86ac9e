"""The report's networks in Keras, as its tables give them."""

import keras
from keras import layers


def lenet5() -> keras.Model:
    return keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            layers.ZeroPadding2D(2),
            layers.Conv2D(6, 5, activation="tanh", name="conv1"),
            layers.AveragePooling2D(2),
            layers.Conv2D(16, 5, activation="tanh", name="conv2"),
            layers.AveragePooling2D(2),
            layers.Flatten(),
            layers.Dense(120, activation="tanh", name="dense1"),
            layers.Dense(84, activation="tanh", name="dense2"),
            layers.Dense(10, name="logits"),
        ]
    )


def double_cnn(dropout: bool = False) -> keras.Model:
    def drop(rate: float) -> layers.Layer:
        return layers.Dropout(rate if dropout else 0.0)

    return keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            *(
                layers.Conv2D(
                    32, 5, padding="same", activation="relu", name=f"block1_conv{i}"
                )
                for i in (1, 2)
            ),
            layers.MaxPooling2D(2),
            drop(0.25),
            *(
                layers.Conv2D(
                    64, 3, padding="same", activation="relu", name=f"block2_conv{i}"
                )
                for i in (1, 2)
            ),
            layers.MaxPooling2D(2),
            drop(0.25),
            layers.Flatten(),
            layers.Dense(256, activation="relu", name="dense1"),
            drop(0.5),
            layers.Dense(10, name="logits"),
        ]
    )


def triple_cnn() -> keras.Model:
    stack: list[layers.Layer] = []
    for block, channels in enumerate((32, 64, 128), start=1):
        stack += [
            layers.Conv2D(
                channels,
                3,
                padding="same",
                activation="relu",
                name=f"block{block}_conv{i}",
            )
            for i in (1, 2)
        ]
        stack += [
            layers.BatchNormalization(name=f"block{block}_norm"),
            layers.MaxPooling2D(2),
        ]
    stack.append(layers.Flatten())
    for layer, units in enumerate((512, 256, 64), start=1):
        stack += [
            layers.Dense(units, activation="relu", name=f"dense{layer}"),
            layers.BatchNormalization(name=f"dense{layer}_norm"),
        ]
    return keras.Sequential(
        [keras.Input((28, 28, 1)), *stack, layers.Dense(10, name="logits")]
    )


KERAS_MODELS = {
    "lenet5": lenet5,
    "double_cnn": double_cnn,
    "triple_cnn": triple_cnn,
}
