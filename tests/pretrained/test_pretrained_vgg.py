"""VGG16 with weights from elsewhere equals the network that they were saved from."""

import hashlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mnist_jax import models, pretrained
from mnist_jax.config import Model
from mnist_jax.data import DIGITS
from mnist_jax.pretrained import imagenet
from mnist_jax.runs.weights import WeightsError
from tests.support.drawing import draw_weights

# Keras, and files of 59 MB.
pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("little_optimized")]

IMAGES = np.random.default_rng(3).uniform(0, 1, (3, 28, 28, 1)).astype(np.float32)


def config(path, *, pretrained_layers=("block",), **options):
    layers = tuple(pretrained_layers)
    return Model(
        "vgg16", pretrained=str(path), pretrained_layers=layers, options=options
    )


def load(path, **fields):
    """The model and its weights, those of the file in their places."""
    model = models.create(config(path, **fields), DIGITS)
    weights = pretrained.load(config(path, **fields), model)
    drawn = draw_weights(model)
    assert weights is not None
    return model, *weights.put(*drawn), drawn[0]


def keras_input(size, preprocess):
    """What Keras's network is given: by Keras's own functions."""
    import keras

    x = np.pad(IMAGES, ((0, 0), (2, 2), (2, 2), (0, 0)))
    if size != 32:
        x = np.asarray(jax.image.resize(x, (3, size, size, 1), "bilinear"))
    x = x.repeat(3, axis=-1)
    if preprocess == "imagenet":
        return keras.applications.vgg16.preprocess_input(255 * x)
    if preprocess == "torch":
        function = keras.applications.imagenet_utils.preprocess_input
        return function(255 * x, mode="torch")
    return x


@pytest.mark.parametrize("kind", ["legacy", "keras3", "keras archive", "torch names"])
def test_each_kind_of_file_gives_the_same_numbers(kind, saved, by_name):
    _, params, _, drawn = load(saved[kind])
    for name, array in by_name.items():
        layer, variable = name.split("/")
        np.testing.assert_array_equal(params[layer][variable], array)
    # What is not in the file is as it was drawn.
    for layer in ("dense1", "logits"):
        jax.tree.map(np.testing.assert_array_equal, params[layer], drawn[layer])


@pytest.mark.parametrize(
    ("kind", "size", "preprocess"),
    [
        ("legacy", 32, "unit"),
        ("keras3", 64, "unit"),
        ("torch names", 48, "unit"),
        ("legacy", 64, "imagenet"),
        ("torch names", 32, "torch"),
    ],
)
def test_the_body_equals_keras(kind, size, preprocess, saved, keras_vgg16):
    model, params, stats, _ = load(saved[kind], input_size=size, preprocess=preprocess)
    body = len(model.stages) - 1
    ours = jax.jit(lambda p: model.run_until(body, p, stats, jnp.asarray(IMAGES)))(
        params
    )
    with jax.numpy_rank_promotion("allow"):
        theirs = np.asarray(keras_vgg16(keras_input(size, preprocess)))
    assert ours.shape == theirs.shape == (3, size // 32, size // 32, 512)
    scale = np.abs(theirs).max()
    assert scale > 0.1
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-4 * max(scale, 1))


def test_the_file_that_keras_publishes_is_known_by_its_md5(
    saved, monkeypatch, tmp_path
):
    """Found in a folder, and refused if it is another; the true file is not here."""
    content = saved["legacy"].read_bytes()
    md5 = hashlib.md5(content).hexdigest()
    monkeypatch.setenv("VGG16_WEIGHTS_DIR", str(tmp_path))
    url, checksum = imagenet.PUBLISHED["vgg16"]
    (tmp_path / url.rpartition("/")[2]).write_bytes(content)
    expected = checksum.partition(":")[2]
    with pytest.raises(WeightsError, match=f"its md5 is {md5}.*{expected}"):
        pretrained.load(config("imagenet"), models.create(config("imagenet"), DIGITS))
    monkeypatch.setitem(imagenet.PUBLISHED, "vgg16", (url, f"md5:{md5}"))
    _, params, _, _ = load("imagenet")
    _, others, _, _ = load(saved["keras3"])
    np.testing.assert_array_equal(
        params["block5_conv3"]["kernel"], others["block5_conv3"]["kernel"]
    )


def test_the_real_first_blocks_are_read_to_the_bit(real_blocks):
    path = real_blocks / "vgg16_blocks12_notop.h5"
    _, params, _, _ = load(path, pretrained_layers=("block[12]_",))
    assert float(params["block1_conv1"]["kernel"][0, 0, 0, 0]) == np.float32(0.42947057)
    stored = np.load(real_blocks / "vgg16_blocks12.npz")
    assert len(stored.files) == 8
    for name in stored.files:
        layer, variable = name.split("/")
        np.testing.assert_array_equal(params[layer][variable], stored[name])
