"""The same networks in Keras on TensorFlow, trained by `fit`, as the report does."""

import os
import time

os.environ["KERAS_BACKEND"] = "tensorflow"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
import keras  # reads the variables
import numpy as np
from keras import layers

from benchmarks.work import ROTATION, SHIFT, ZOOM, Layer, Work, make_images

PACKAGES = ("keras", "tensorflow")


def prepare(work: Work, options: list[str]):
    """Build and compile the network; see `work.prepare`."""
    del options
    recipe = work.recipe
    inputs = keras.Input((28, 28, 1))
    model = keras.Model(inputs, _apply([*recipe.layers, ("dense", 10, None)], inputs))
    optimizers = {
        "adam": keras.optimizers.Adam,
        "adamw": keras.optimizers.AdamW,
        "rmsprop": keras.optimizers.RMSprop,
    }
    model.compile(
        optimizer=optimizers[recipe.optimizer](recipe.learning_rate),
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
            ).flow(scaled, labels, batch_size=recipe.batch_size),
            "steps_per_epoch": work.steps,
        }
    else:
        source = {"x": scaled, "y": labels, "batch_size": recipe.batch_size}

    def run() -> float:
        begin = time.perf_counter()
        model.fit(**source, epochs=1, verbose=0)
        return time.perf_counter() - begin

    return run


def _apply(stack: list[Layer], x):
    for layer in stack:
        if layer[0] == "add":
            x = layers.Add()([_apply(branch, x) for branch in layer[1:]])
        else:
            x = _build(layer)(x)
    return x


def _build(layer: Layer):
    match layer:
        case "bare_conv", channels, size, strides:
            return layers.Conv2D(
                channels, size, strides, padding="same", use_bias=False
            )
        case "separable", _, channels:
            return layers.SeparableConv2D(channels, 3, padding="same", use_bias=False)
        case ("overlapping_pool",):
            return layers.MaxPooling2D(3, 2, "same")
        case ("relu",):
            return layers.ReLU()
        case ("mean",):
            return layers.GlobalAveragePooling2D()
        case "conv", channels, size, padding, activation:
            return layers.Conv2D(channels, size, padding=padding, activation=activation)
        case "dense", units, activation:
            return layers.Dense(units, activation=activation)
        case "dropout", rate:
            return layers.Dropout(rate)
        case "pad", size:
            return layers.ZeroPadding2D(size)
        case ("three_channels",):
            return layers.Lambda(lambda images: keras.ops.repeat(images, 3, axis=-1))
        case ("average_pool",):
            return layers.AveragePooling2D(2)
        case ("max_pool",):
            return layers.MaxPooling2D(2)
        case ("norm",):
            return layers.BatchNormalization()
        case ("flatten",):
            return layers.Flatten()
    raise ValueError(layer)
