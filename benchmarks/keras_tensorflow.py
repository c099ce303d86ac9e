"""The same networks in Keras on TensorFlow, trained by `fit`, as the report does."""

import functools
import importlib.metadata
import os
import time

os.environ["KERAS_BACKEND"] = "tensorflow"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
import keras  # reads the variables
import numpy as np
from keras import layers

from benchmarks.work import ROTATION, SHIFT, ZOOM, Work, make_images


def prepare(work: Work):
    """Build and compile the network; see `work.prepare`."""
    model = keras.Sequential([keras.Input((28, 28, 1)), *_STACKS[work.network]()])
    optimizers = {"adam": keras.optimizers.Adam, "rmsprop": keras.optimizers.RMSprop}
    model.compile(
        optimizer=optimizers[work.recipe.optimizer](work.recipe.learning_rate),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    images, labels = make_images(work)
    scaled = images.astype(np.float32) / 255
    if work.augmented:
        from keras.src.legacy.preprocessing.image import ImageDataGenerator

        source = {
            "x": ImageDataGenerator(
                rotation_range=ROTATION,
                zoom_range=ZOOM,
                width_shift_range=SHIFT,
                height_shift_range=SHIFT,
            ).flow(scaled, labels, batch_size=work.recipe.batch_size),
            "steps_per_epoch": work.steps,
        }
    else:
        source = {"x": scaled, "y": labels, "batch_size": work.recipe.batch_size}

    def run() -> float:
        begin = time.perf_counter()
        model.fit(**source, epochs=1, verbose=0)
        return time.perf_counter() - begin

    return run


def versions() -> dict[str, str]:
    """Return the versions of Keras and TensorFlow."""
    return {name: importlib.metadata.version(name) for name in ("keras", "tensorflow")}


def _lenet5():
    return [
        layers.ZeroPadding2D(2),
        layers.Conv2D(6, 5, activation="tanh"),
        layers.AveragePooling2D(2),
        layers.Conv2D(16, 5, activation="tanh"),
        layers.AveragePooling2D(2),
        layers.Flatten(),
        layers.Dense(120, activation="tanh"),
        layers.Dense(84, activation="tanh"),
        layers.Dense(10),
    ]


def _double_cnn():
    stack = []
    for channels, size in ((32, 5), (64, 3)):
        for _ in range(2):
            stack.append(
                layers.Conv2D(channels, size, padding="same", activation="relu")
            )
        stack += [layers.MaxPooling2D(2), layers.Dropout(0.25)]
    return [
        *stack,
        layers.Flatten(),
        layers.Dense(256, activation="relu"),
        layers.Dropout(0.5),
        layers.Dense(10),
    ]


def _triple_cnn():
    stack = []
    for channels in (32, 64, 128):
        for _ in range(2):
            stack.append(layers.Conv2D(channels, 3, padding="same", activation="relu"))
        stack += [
            layers.BatchNormalization(),
            layers.MaxPooling2D(2),
            layers.Dropout(0.25),
        ]
    stack.append(layers.Flatten())
    for units, rate in ((512, 0.5), (256, 0.4), (64, 0.3)):
        stack += [
            layers.Dense(units, activation="relu"),
            layers.BatchNormalization(),
            layers.Dropout(rate),
        ]
    return [*stack, layers.Dense(10)]


def _three_channels():
    return layers.Lambda(lambda images: keras.ops.repeat(images, 3, axis=-1))


def _vgg16(*, frozen=False):
    stack = [layers.ZeroPadding2D(2), _three_channels()]
    for channels, size in ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3)):
        for _ in range(size):
            stack.append(layers.Conv2D(channels, 3, padding="same", activation="relu"))
        stack.append(layers.MaxPooling2D(2))
    for layer in stack:
        layer.trainable = not frozen
    return [
        *stack,
        layers.Flatten(),
        layers.Dense(512, activation="relu"),
        layers.Dropout(0.5),
        layers.Dense(10),
    ]


_STACKS = {
    "lenet5": _lenet5,
    "double_cnn": _double_cnn,
    "triple_cnn": _triple_cnn,
    "vgg16": _vgg16,
    "vgg16_head": functools.partial(_vgg16, frozen=True),
}
