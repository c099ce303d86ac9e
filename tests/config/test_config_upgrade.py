"""A config.json of any version is read, and means what it meant."""

import json
from pathlib import Path

import pytest

from configs import base
from mnist_jax import config, experiment, files
from mnist_jax.config import ConfigError, Experiment, from_stored, to_stored, upgrade
from mnist_jax.runs.folder import RunFolder
from tests.conftest import ROOT

EARLIER = json.loads((Path(__file__).parent / "earlier_configs.json").read_text())
PUBLISHED = sorted(ROOT.glob("results/*/seed*/config.json"))
WITHOUT_FADE = to_stored(Experiment())["augment"]
del WITHOUT_FADE["fade"]  # as format 3 was


def defaults(**model):
    values = base.get_config()
    values.name = "lenet5"
    values.model.update(model)
    return experiment.parse(values)


@pytest.mark.parametrize("version", EARLIER)
def test_a_run_of_each_earlier_version_goes_on_with_the_same_config(version, tmp_path):
    """The defaults never changed, so that all of these are the same experiment."""
    folder = RunFolder(tmp_path)
    files.write_json(folder.config, EARLIER[version])
    assert folder.read_config() == defaults()
    folder.check_config(defaults())


def test_there_is_a_config_of_every_shape():
    shapes = {
        json.dumps(upgrade(stored), sort_keys=True) for stored in EARLIER.values()
    }
    assert len(EARLIER) == 9
    assert len(shapes) == 1


@pytest.mark.parametrize("path", PUBLISHED, ids=lambda path: path.parent.parent.name)
def test_published_configs_are_read_and_build_what_they_name(path):
    stored = json.loads(path.read_text())
    found = from_stored(stored)
    assert (found.name, found.model.name) == (stored["name"], stored["model"]["name"])
    model, phases = experiment.check(found)
    assert model.name == found.model.name and len(phases) == len(stored["phases"])
    assert from_stored(json.loads(json.dumps(to_stored(found)))) == found


def test_all_published_configs_are_there():
    assert len(PUBLISHED) >= 14


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ({"input_size": 0}, {"input_size": 32}),
        ({"input_size": 64, "preprocess": "torch"}, {"input_size": 64}),
        ({}, {"input_size": 32, "preprocess": "unit", "kernel_init": "glorot_uniform"}),
    ],
)
def test_options_of_vgg_stay_its_own(old, new):
    stored = EARLIER["the first"] | {"model": {"name": "vgg16"} | old}
    options = from_stored(stored).model.options
    assert options.items() >= (old | new).items()
    assert not from_stored(EARLIER["with convolutions"]).model.options


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": 5}, "run.json was written by a newer version"),
        ({"sed": 3}, 'run.json: config.sed: no such field. Did you mean "seed"'),
        ({"best": {}}, "run.json is damaged: it has no config.best.monitor"),
        ({"phases": [{}]}, r"run.json is damaged: it has no config.phases\[0\].name"),
        ({"model": ...}, "run.json is damaged: it has no config.model"),
        ({"log": ...}, "run.json is damaged: it has no config.log"),
        ({"augment": WITHOUT_FADE}, "is damaged: it has no config.augment.fade"),
    ],
)
def test_what_cannot_be_read_is_named(change, message):
    stored = {
        name: value
        for name, value in (to_stored(Experiment()) | change).items()
        if value is not ...
    }
    with pytest.raises(ConfigError, match=message):
        from_stored(stored, name="run.json")


def test_this_version_s_layout_is_left_alone():
    """Even where it looks like an earlier one's."""
    stored = to_stored(Experiment(model=config.Model("x", options={"input_size": 0})))
    assert upgrade(stored)["model"]["input_size"] == 0
