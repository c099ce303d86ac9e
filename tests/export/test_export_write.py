"""Exported files, and model cards that are true."""

import dataclasses
import re
import sys

import numpy as np
import pytest
import scipy.stats

from mnist_jax import export, tree
from mnist_jax.errors import UserError
from mnist_jax.export import card
from mnist_jax.runs.load import load

pytestmark = pytest.mark.usefixtures("little_optimized")


@pytest.mark.parametrize("kind", ["onnx", "stablehlo", "safetensors"])
def test_the_code_on_the_card_predicts_as_the_run(kind, tmp_path, monkeypatch, images):
    for package in export.FORMATS[kind].packages:
        pytest.importorskip(package)
    run = load()
    path = tmp_path / f"net.{kind}"
    text = export.write(run, path, format=kind).read_text()
    code = re.search(r"```python\n(.*?)```", text, re.DOTALL)
    assert code and code[1].count("\n") == 3
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", sys.path)
    found = {"images": images[:5]}
    exec(code[1].replace("np.zeros((1, 28, 28), np.uint8)", "images"), found)
    expected = run.predict(images[:5])
    np.testing.assert_allclose(found["probabilities"], expected, rtol=0, atol=1e-5)


def test_the_card_states_the_accuracy_with_its_interval_and_no_folders():
    run = load()
    source = dataclasses.replace(run.config.data, dir="/home/me/mnist")
    model = dataclasses.replace(run.config.model, pretrained="/home/me/start")
    config = dataclasses.replace(run.config, data=source, model=model, dtype="bfloat16")
    private = dataclasses.replace(run, config=config)
    text = card.text(private, file="x.onnx", format="onnx", shape=(28, 28))
    right = scipy.stats.binomtest(round(10_000 * run.accuracy), 10_000)
    low, high = right.proportion_ci(method="wilson")
    interval = f"(95 % interval {low:.4f} to {high:.4f})"
    assert f"{run.accuracy:.4f} on 10,000 test images {interval}" in text
    count = tree.count_parameters(run.params, run.batch_stats)
    assert f"{count:,} parameters" in text
    assert "the rounding of bfloat16" in text
    assert "/home/me" not in text and "weights from `start`" in text


def test_the_interval_is_for_as_many_images_as_were_tested():
    run = load()
    weights = {"test_weights": "best", "test": {"best": {"examples": 77}}}
    for tested_on, results, examples in (("val", None, 6000), ("test", weights, 77)):
        run = dataclasses.replace(
            run, tested_on=tested_on, results=results, accuracy=0.5
        )
        known = card.facts(run)
        assert f"0.5000 on {examples:,} " in known["accuracy"]
        low, high = map(float, known["interval"].split(" to "))
        assert (high - low) / 2 == pytest.approx(0.98 / examples**0.5, rel=0.05)


def test_a_missing_package_is_named_with_the_command_that_installs_it(
    tmp_path, monkeypatch
):
    monkeypatch.setitem(sys.modules, "onnx", None)
    monkeypatch.delitem(sys.modules, "mnist_jax.export.onnx_file", raising=False)
    monkeypatch.delattr(export, "onnx_file", raising=False)
    with pytest.raises(
        UserError, match=r".onnx .*\(.*onnx.*\): pip install onnx onnxru"
    ):
        export.write(load(), tmp_path / "net", format="onnx")
    assert not list(tmp_path.iterdir())
