"""Networks, optimizers and augmentations named by dotted paths, and stored configs."""

import dataclasses
import json
import re
import runpy
import sys
import unittest.mock

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from mnist_jax import config, experiment, load_run
from mnist_jax.commands import config_flag
from mnist_jax.config import ConfigError, Experiment, Optimizer, from_stored, to_json
from mnist_jax.data import augment
from mnist_jax.runs.load import load
from mnist_jax.training import optimizer
from tests.conftest import ROOT
from tests.support import own_parts

pytestmark = pytest.mark.usefixtures("little_optimized")

PARTS = "tests.support.own_parts:"


def test_a_run_of_own_parts_is_stored_resumed_and_read_back(
    small_config, small, tmp_path, without_pictures
):
    values = to_json(experiment.parse(small_config))
    values["model"] = {"name": "tests.support.own_nets:TwoOutputs", "width": 2}
    values["augment"]["name"] = PARTS + "create"
    values["phases"][0]["optimizer"]["name"] = PARTS + "lion"
    values["phases"][0]["freeze"] = ["block1"]
    values["phases"][0]["epochs"] = 2
    parsed = experiment.parse(values)
    results = experiment.run(parsed, tmp_path)
    stored = from_stored(json.loads((tmp_path / "config.json").read_text()))
    assert stored == parsed
    assert experiment.run(stored, tmp_path) == results
    run = load(tmp_path)
    assert run.config == parsed
    predictions = np.load(tmp_path / "predictions.npz")
    np.testing.assert_array_equal(run.logits(small.test.images), predictions["last"])


def test_the_documented_parts_train_together(tmp_path, monkeypatch, without_pictures):
    """The files in docs/extending.md, and the flags beside them."""
    monkeypatch.chdir(tmp_path)
    text = (ROOT / "docs" / "extending.md").read_text()
    blocks = re.findall(r"`(my_\w+\.py)`:\n\n```python\n(.*?)^```", text, re.S | re.M)
    assert len(blocks) == text.count("```python") == 6
    for name, content in blocks:
        (tmp_path / name).write_text(content)
    values = config_flag.load("my_config.py")
    named = dict(re.findall(r"--config\.(\S+)=(my_\w+:\w+)$", text, re.M))
    named |= {"data.source": "my_data:load", "data.val_size": 100}
    optimizer_name = named.pop("phases[0].optimizer.name")
    values.update_from_flattened_dict(named)
    values.phases[0].optimizer.name = optimizer_name
    values.phases[0].epochs = 1
    results = experiment.run(experiment.parse(values), tmp_path / "run")
    assert (results["config"], results["model"]) == ("mine", "my_nets:MLP")
    assert load_run(tmp_path / "run").classes == (
        "T-shirt",
        "Ankle boot",
        "Bag",
    )
    client = unittest.mock.MagicMock()
    monkeypatch.setitem(sys.modules, "wandb", client)
    monkeypatch.setattr(sys, "argv", ["my_wandb.py", str(tmp_path / "run")])
    runpy.run_path("my_wandb.py")
    sent = {}
    for call in client.init.return_value.__enter__.return_value.log.call_args_list:
        assert call.kwargs == {"step": 1}
        sent |= call.args[0]
    assert len(sent) == 5 and "train/learning_rate" in sent
    accuracy = results["val"]["last"]["accuracy"]
    assert sent["val/accuracy"] == pytest.approx(accuracy)


def test_an_optimizer_is_what_its_function_returns():
    found = optimizer.create(Optimizer(name=PARTS + "lion"))  # type: ignore[arg-type]
    expected = optax.scale_by_lion(0.9, 0.999)
    params = {"w": np.float32(2.0)}
    gradients = {"w": np.float32(-0.5)}
    for one in (found, expected):
        updates, _ = one.update(gradients, one.init(params), params)
        assert updates == {"w": -1.0}
    with pytest.raises(ConfigError, match="not an optax.GradientTransformation"):
        optimizer.create(Optimizer(name=PARTS + "not_optax"))  # type: ignore[arg-type]


def test_an_augmentation_is_what_its_function_returns():
    values = config.parse({"name": PARTS + "create"}, config.Augment)
    found, images = augment.create(values), jnp.arange(24.0).reshape(4, 2, 3, 1)
    assert found is not None
    expected = own_parts.create(values)(jax.random.key(0), images, 0.0)
    np.testing.assert_array_equal(found(jax.random.key(0), images), expected)


@pytest.mark.parametrize(
    ("section", "value", "message"),
    [
        (Optimizer, "adm", "--config.name=adm: unknown (known: adam, adamw, rmsprop"),
        (config.Augment, "x", "--config.name=x: unknown (known: standard)"),
        (config.Schedule, "my:fn", "--config.name=my:fn: unknown (known: constant"),
    ],
)
def test_a_name_is_known_or_a_path_where_one_is_allowed(section, value, message):
    with pytest.raises(ConfigError) as caught:
        config.parse({"name": value}, section)
    assert message in str(caught.value)


def test_a_missing_field_has_its_default():
    assert from_stored({}) == Experiment()
    assert from_stored({"seed": 3}) == dataclasses.replace(Experiment(), seed=3)


@pytest.mark.parametrize(
    ("stored", "message"),
    [
        ({"sed": 3}, 'run.json: config.sed: no such field. Did you mean "seed"?'),
        ({"best": {"x": 1}}, "run.json: config.best.x: no such field."),
        ({"seed": "3"}, "run.json: config.seed=3: must be a whole number."),
        ([], "run.json: config=[]: must be a section with the fields name, seed"),
    ],
)
def test_a_stored_config_that_cannot_be_read_is_named(stored, message):
    with pytest.raises(ConfigError) as caught:
        from_stored(stored, name="run.json")
    assert message in str(caught.value)
