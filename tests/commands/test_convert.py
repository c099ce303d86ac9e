"""`mnist-jax convert`: what it keeps, and what it refuses in terms of its own flags."""

import re
from types import SimpleNamespace

import numpy as np
import pytest
import safetensors.numpy

from mnist_jax import models
from mnist_jax.commands import convert
from mnist_jax.errors import UserError
from mnist_jax.runs import weights as run_weights
from tests.support.commands import run_each
from tests.support.small_vgg import VGG_METADATA, Narrow, write_vgg


@pytest.fixture
def convert_in_process(monkeypatch):
    """Run the command with values for its flags, and VGG small."""
    monkeypatch.setitem(models.MODELS, "vgg16", Narrow)

    def run(source, target, *, network="vgg16", layers=()):
        monkeypatch.setattr(convert, "_NETWORK", SimpleNamespace(value=network))
        monkeypatch.setattr(convert, "_LAYERS", SimpleNamespace(value=layers))
        convert.main([str(source), str(target)])
        return run_weights.read(target)

    return run


@pytest.mark.parametrize("kind", ["file", "run"])
def test_what_is_converted_keeps_options_and_metadata(
    kind, convert_in_process, tmp_path
):
    """Another input size has another first dense layer."""
    tensors = write_vgg(tmp_path / "weights.safetensors")
    source = tmp_path / "weights.safetensors"
    if kind == "run":
        (tmp_path / "config.json").write_text(VGG_METADATA["config"])
        source = tmp_path
    found, metadata = convert_in_process(source, tmp_path / "out")
    assert found.keys() == tensors.keys()
    assert VGG_METADATA.items() <= metadata.items()
    # A part has no accuracy, and no file says so.
    found, metadata = convert_in_process(source, tmp_path / "out", layers=["block1"])
    assert found.keys() == {"block1_conv1/kernel", "block1_conv1/bias"}
    assert metadata.keys() == {"mnist_jax_network", "config", "sha256"}


@pytest.mark.parametrize("torch", [False, True])
def test_a_converted_file_from_elsewhere_keeps_its_kind_of_input(
    torch, convert_in_process, tmp_path
):
    tensors = {}
    for layer, place in (("block1_conv1", 0), ("block2_conv1", 3)):
        shape = (3, 3, 3, 8) if place == 0 else (3, 3, 8, 16)
        kernel, bias = np.ones(shape, np.float32), np.ones(shape[-1], np.float32)
        if torch:
            tensors[f"features.{place}.weight"] = kernel.transpose(3, 2, 0, 1).copy()
            tensors[f"features.{place}.bias"] = bias
        else:
            tensors |= {f"{layer}/kernel": kernel, f"{layer}/bias": bias}
    safetensors.numpy.save_file(tensors, tmp_path / "in")
    found, metadata = convert_in_process(tmp_path / "in", tmp_path / "out")
    assert len(found) == 4
    assert metadata["preprocess"] == ("torch" if torch else "imagenet")
    _, again = convert_in_process(
        tmp_path / "out", tmp_path / "again", layers=["block"]
    )
    assert again == metadata


def test_the_messages_of_the_command_name_its_own_flags(convert_in_process, tmp_path):
    write_vgg(tmp_path / "whole")
    safetensors.numpy.save_file({"x": np.zeros(3, np.float32)}, tmp_path / "foreign")
    for source, fields, message in (
        ("foreign", {}, "missing: block1_conv1/bias"),
        ("foreign", {"network": "vgg"}, "--network=vgg: .*vgg16"),
        ("whole", {"layers": ["conv9"]}, "--layers: 'conv9' matches no parameter"),
        ("whole", {"layers": ["("]}, "--layers: "),
        ("nothing", {}, "cannot be read: No such file"),
    ):
        with pytest.raises(UserError, match=f"(?s){message}") as caught:
            convert_in_process(tmp_path / source, tmp_path / "out", **fields)
        assert "--config" not in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_the_command_refuses_nonsense(command_env, tmp_path):
    out = tmp_path / "out.safetensors"
    run_weights.write(out, {"x": np.zeros(1)}, {run_weights.NETWORK: "lenet6"})
    before = out.read_bytes()
    expected = [
        ([out], "Name two files"),
        ([tmp_path / "nothing", out], "cannot be read"),
        ([out, tmp_path / "no" / "x"], "there is no folder"),
        ([out, tmp_path], "is a folder"),
        ([out, out], "by another version: .*lenet6"),
    ]
    cases = [["convert", *map(str, arguments)] for arguments, _ in expected]
    results = run_each("mnist_jax", cases, env=command_env)
    for failed, (_, message) in zip(results, expected, strict=True):
        assert failed.returncode == 1
        assert re.search(message, failed.stderr) and "Traceback" not in failed.stderr
    assert out.read_bytes() == before
