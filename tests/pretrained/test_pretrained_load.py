"""Weights from files and from runs are loaded, or refused with the names at fault."""

import io
import json
import zipfile
from typing import Any

import h5py
import numpy as np
import pytest

from configs import vgg16
from mnist_jax import experiment, models, pretrained
from mnist_jax.config import Experiment, Model, to_json
from mnist_jax.data import DIGITS, Task
from mnist_jax.errors import UserError
from mnist_jax.pretrained import imagenet
from mnist_jax.runs import weights as run_weights
from mnist_jax.runs.weights import WeightsError
from tests.support.drawing import draw_weights
from tests.support.runs import reported_weights
from tests.support.small_vgg import VGG_METADATA, Narrow, write_vgg

LENET = models.create(Model("lenet5"), DIGITS)


def config(path, *, name="lenet5", layers=(".*",)):
    return Model(name, pretrained=str(path), pretrained_layers=layers)


def arrays():
    rng = np.random.default_rng(0)
    return {
        name: rng.normal(size=shape).astype(np.float32)
        for name, shape in run_weights.shapes(LENET).items()
    }


def drawn(seed) -> tuple[Any, Any]:
    """Weights to start with."""
    return draw_weights(LENET, seed)


def load(path, **fields) -> pretrained.Weights:
    weights = pretrained.load(config(path, **fields), LENET)
    assert weights is not None
    return weights


def test_our_own_format_comes_back_to_the_bit(tmp_path):
    path, tensors = tmp_path / "lenet5.safetensors", arrays()
    run_weights.write(path, tensors, {run_weights.NETWORK: "lenet5"})
    weights = load(path)
    params, stats = weights.put(*drawn(0))
    assert stats == {}
    for name, tensor in tensors.items():
        layer, variable = name.split("/")
        np.testing.assert_array_equal(params[layer][variable], tensor)


def test_everything_that_is_wrong_is_listed_by_name(tmp_path):
    tensors = arrays()
    del tensors["conv1/bias"]
    tensors["conv9/kernel"] = np.zeros(3, np.float32)
    tensors["dense1/bias"] = np.zeros(7, np.float32)
    tensors["conv2/kernel"][0, 0, 0, 0] = np.nan
    tensors["logits/bias"][3] = np.inf
    path = tmp_path / "x.safetensors"
    run_weights.write(path, tensors, {run_weights.NETWORK: "lenet5"})
    with pytest.raises(WeightsError) as caught:
        load(path)
    lines = str(caught.value).splitlines()
    assert lines[0].startswith(str(path))
    assert lines[1:-1] == [
        "  missing: conv1/bias",
        "  unexpected: conv9/kernel",
        "  of another shape: dense1/bias [7] where [120] is needed",
        "  not finite numbers: conv2/kernel, logits/bias",
    ]
    assert "--config.model.pretrained=none" in lines[-1]


def test_what_is_not_asked_for_may_be_missing_but_not_unknown(tmp_path):
    tensors = {k: v for k, v in arrays().items() if k.startswith("conv")}
    path = tmp_path / "x.safetensors"
    run_weights.write(path, tensors, {run_weights.NETWORK: "lenet5"})
    assert load(path, layers=("conv",)).arrays.keys() == tensors.keys()
    run_weights.write(
        path, tensors | {"x": np.zeros(1)}, {run_weights.NETWORK: "lenet5"}
    )
    with pytest.raises(WeightsError, match="unexpected: x"):
        load(path, layers=("conv",))


def test_a_network_for_other_classes_lends_its_body(tmp_path):
    """Only the arrays that are asked for need the right shapes."""
    letters = models.create(Model("lenet5"), Task(tuple(map(str, range(62)))))
    params, batch_stats = draw_weights(letters)
    lent = run_weights.named(params, batch_stats)
    path = tmp_path / "x.safetensors"
    run_weights.write(path, lent, {run_weights.NETWORK: "lenet5"})
    body, _ = load(path, layers=("conv", "dense")).put(*drawn(0))
    for layer in ("conv1", "conv2", "dense1", "dense2"):
        np.testing.assert_array_equal(body[layer]["kernel"], lent[f"{layer}/kernel"])
    with pytest.raises(WeightsError, match=r"logits/bias \[62\] where \[10\]"):
        load(path)


def test_layers_of_a_nested_network_are_taken_by_their_whole_path(tmp_path):
    name = "tests.support.own_nets:TwoOutputs"
    model = models.create(Model(name), DIGITS)
    first, second = draw_weights(model, 1), draw_weights(model, 2)
    path = tmp_path / "x.safetensors"
    run_weights.write(path, run_weights.named(*first), {run_weights.NETWORK: name})
    weights = pretrained.load(config(path, name=name, layers=("block1/",)), model)
    assert weights is not None
    found = run_weights.named(*weights.put(*second))
    for leaf, value in run_weights.named(*first).items():
        taken = leaf.startswith("block1/")
        expected = value if taken else run_weights.named(*second)[leaf]
        np.testing.assert_array_equal(found[leaf], expected)


def test_weights_of_another_network_are_refused(tmp_path):
    run_weights.write(tmp_path / "x", arrays(), {run_weights.NETWORK: "double_cnn"})
    with pytest.raises(WeightsError, match="weights of double_cnn, but the network is"):
        load(tmp_path / "x")


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        (("conv[",), "not a regular expression"),
        (("conv7",), "'conv7' matches no parameter.*conv1, conv2"),
        ((), "is empty"),
    ],
)
def test_expressions_that_take_nothing_are_refused(tmp_path, layers, message):
    with pytest.raises(UserError, match=f"pretrained_layers.*{message}"):
        load(tmp_path / "x", layers=layers)


def test_layers_that_keras_numbered_are_those_of_the_network_in_order(tmp_path):
    """From any number on, whatever their order in the file."""
    theirs = {"conv2d_14": "conv2", "conv2d_13": "conv1"}
    theirs |= {"dense_2": "logits", "dense": "dense1", "dense_1": "dense2"}
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file.attrs["layer_names"] = list(theirs)
        for layer, ours in theirs.items():
            group = file.create_group(layer)
            for array in ("kernel", "bias"):
                group[f"{array}:0"] = arrays()[f"{ours}/{array}"]
            group.attrs["weight_names"] = list(group)
    found = load(tmp_path / "x.h5").arrays
    assert found.keys() == arrays().keys()
    for name, value in arrays().items():
        np.testing.assert_array_equal(found[name], value)


def hdf5(path, content):
    with h5py.File(path, "w") as file:
        content(file)


def keras_archive(weights):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("model.weights.h5", weights)
    return buffer.getvalue()


def keras_layer(file, *names):
    file.attrs["layer_names"] = [b"conv1"]
    group = file.create_group("conv1")
    group.attrs["weight_names"] = [name.encode() for name in names]
    for name in names:
        group[name] = [1.0]


def without_names(file):
    file["layers/conv2d/vars/0"] = [1.0]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("missing.h5", None, "cannot be read: No such file"),
        ("empty.h5", b"", "is empty"),
        ("text.h5", b"these are no weights", "neither Keras's.*nor safetensors nor"),
        ("cut.h5", b"\x89HDF\r\n\x1a\n\0\0\0", "damaged, or not an HDF5 file"),
        ("cut.keras", keras_archive(b"\x89HDF\r\n\x1a\n\0"), "damaged, or not an HDF5"),
        ("cut.safetensors", b'\x40\0\0\0\0\0\0\0{"a":', "not a safetensors file"),
        ("bare.h5", lambda f: f.create_group("x"), "HDF5 file without weights"),
        ("other.h5", lambda f: keras_layer(f, "conv1/u:0"), "unexpected: conv1/u:0"),
        ("half.h5", lambda f: keras_layer(f, "conv1_b:0"), "missing: .*conv1/kernel"),
        ("early.weights.h5", without_names, "does not store the names of layers"),
    ],
)
def test_a_file_that_holds_no_weights_is_refused(tmp_path, name, content, message):
    path = tmp_path / name
    if callable(content):
        hdf5(path, content)
    elif content is not None:
        path.write_bytes(content)
    with pytest.raises(WeightsError, match=f"(?s){name}.*{message}"):
        load(path)


def test_a_folder_that_is_no_run_is_refused(tmp_path):
    with pytest.raises(
        WeightsError, match="is not a run folder: it has no config.json"
    ):
        load(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(to_json(Experiment())))
    with pytest.raises(WeightsError, match="is not finished: there is no weights"):
        load(tmp_path)


def test_imagenet_is_refused_where_there_is_none():
    known = ", ".join(imagenet.PUBLISHED)
    with pytest.raises(WeightsError, match=f"weights for lenet5, only for {known}"):
        load("imagenet")


def test_without_a_network_the_way_out_is_told(no_network, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))
    for variable in ("IMAGENET_WEIGHTS_DIR", "VGG16_WEIGHTS_DIR"):
        monkeypatch.delenv(variable, raising=False)
    config = vgg16.get_config()
    config.data.update(source="digits", val_size=200)
    with pytest.raises(UserError) as caught:
        experiment.run(experiment.parse(config), tmp_path / "run")
    url, checksum = imagenet.PUBLISHED["vgg16"]
    for part in (url, checksum.partition(":")[2], "--config.model.pretrained=none"):
        assert part in str(caught.value)
    assert no_network()
    assert not (tmp_path / "run").exists()


@pytest.mark.usefixtures("little_optimized", "without_pictures")
def test_a_run_begins_where_the_best_epoch_of_another_was(small_config, tmp_path):
    """A new head on the frozen body, BatchNorm's statistics with it."""
    body = ("conv", "norm")
    small_config.model.name = "fast_cnn"
    experiment.run(experiment.parse(small_config), tmp_path / "first")
    small_config.model.pretrained = str(tmp_path / "first")
    small_config.model.pretrained_layers = body
    small_config.phases[0].update(freeze=body, epochs=1)
    experiment.run(experiment.parse(small_config), tmp_path / "second")
    before, after = (
        reported_weights(tmp_path / folder) for folder in ("first", "second")
    )
    for one, other in zip(before, after, strict=True):
        assert one.keys() == other.keys()
        for layer, variables in one.items():
            for variable, value in variables.items():
                equal = np.array_equal(value, other[layer][variable])
                assert equal == layer.startswith(body), (layer, variable)


@pytest.mark.parametrize(
    ("metadata", "preprocess", "warned"),
    [
        (VGG_METADATA, "torch", False),
        (VGG_METADATA, "unit", True),
        # Weights of ImageNet's: the report shows them 0..1 on purpose.
        ({"mnist_jax_network": "vgg16", "preprocess": "torch"}, "unit", False),
        ({"mnist_jax_network": "vgg16", "preprocess": "torch"}, "imagenet", True),
        ({"mnist_jax_network": "vgg16"}, "torch", False),  # unknown
    ],
)
def test_a_warning_of_the_input_if_and_only_if_it_is_another(
    metadata, preprocess, warned, tmp_path, caplog
):
    write_vgg(tmp_path / "x", metadata)
    model = models.Model(
        "vgg16", Narrow(num_classes=10, input_size=64, preprocess=preprocess), DIGITS
    )
    pretrained.load(config(tmp_path / "x", name="vgg16"), model)
    assert ("were trained with" in caplog.text) == warned
