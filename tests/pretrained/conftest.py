"""Weights of VGG16 as others save them: once a session, since each is 59 MB."""

import os
import warnings
from pathlib import Path

import numpy as np
import pytest

os.environ.setdefault("KERAS_BACKEND", "jax")


@pytest.fixture(scope="session")
def keras_vgg16():
    """Keras's own VGG16 without its top, weights at random, biases too."""
    import keras

    from tests.models.keras_models import like_keras, zeros

    with like_keras(), zeros():
        model = keras.applications.VGG16(
            include_top=False,
            weights=None,  # pyright: ignore[reportArgumentType]
            input_shape=(None, None, 3),
        )
    rng = np.random.default_rng(0)
    for variable in model.variables:
        # Large enough that signals neither vanish nor explode on their way.
        fan_in = np.prod(variable.shape[:-1])
        scale = np.sqrt(2 / fan_in) if variable.name == "kernel" else 0.1
        variable.assign(rng.normal(0, scale, variable.shape))
    return model


@pytest.fixture(scope="session")
def by_name(keras_vgg16) -> dict[str, np.ndarray]:
    """Its weights by our names."""
    return {
        f"{variable.path.split('/')[-2]}/{variable.name}": np.asarray(variable.value)
        for variable in keras_vgg16.variables
    }


@pytest.fixture(scope="session")
def saved(keras_vgg16, by_name, tmp_path_factory) -> dict[str, Path]:
    """The same weights as files, by the kind of file."""
    import safetensors.numpy

    folder = tmp_path_factory.mktemp("weights")
    paths = {
        "legacy": folder / "model.h5",
        "keras3": folder / "model.weights.h5",
        "keras archive": folder / "model.keras",
        "torch names": folder / "torch.safetensors",
    }
    with warnings.catch_warnings():
        # Keras's variables and NumPy 2 do not agree on how copies are asked for.
        warnings.simplefilter("ignore", DeprecationWarning)
        keras_vgg16.save(paths["legacy"])
        keras_vgg16.save_weights(paths["keras3"])
        keras_vgg16.save(paths["keras archive"])
    # torchvision's places of the convolutions, as its file has them.
    places = (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28)
    layers = list(dict.fromkeys(name.split("/")[0] for name in by_name))
    torch = {}
    for place, layer in zip(places, layers, strict=True):
        kernel = by_name[f"{layer}/kernel"].transpose(3, 2, 0, 1)
        # As torch.compile names what it wraps.
        torch[f"_orig_mod.features.{place}.weight"] = np.ascontiguousarray(kernel)
        torch[f"_orig_mod.features.{place}.bias"] = by_name[f"{layer}/bias"]
    torch["classifier.6.bias"] = np.zeros(1000, np.float32)
    safetensors.numpy.save_file(torch, paths["torch names"])
    return paths


@pytest.fixture(scope="session")
def real_blocks() -> Path:
    """The folder of the real ImageNet weights of VGG16's first two blocks."""
    folder = os.environ.get("VGG16_WEIGHTS_DIR")
    path = Path(folder) if folder else None
    if not path or not (path / "vgg16_blocks12_notop.h5").exists():
        pytest.skip("VGG16_WEIGHTS_DIR names no folder with vgg16_blocks12_notop.h5")
    return path
