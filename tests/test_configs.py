"""Every experiment in configs/, and each of its variants."""

import importlib
import json

import pytest

from mnist_jax import experiment
from mnist_jax.config import from_stored, to_json
from mnist_jax.errors import UserError
from tests.conftest import ROOT

MODULES = {
    path.stem: importlib.import_module(f"configs.{path.stem}")
    for path in (ROOT / "configs").glob("*.py")
    if path.stem not in ("__init__", "base")
}
EXPERIMENTS = [
    (name, variant)
    for name, module in MODULES.items()
    for variant in ("", *getattr(module, "VARIANTS", {}))
]
PUBLISHED = sorted(ROOT.glob("results/*/seed*/config.json"))
every_experiment = pytest.mark.parametrize(("name", "variant"), EXPERIMENTS)


@every_experiment
def test_it_is_accepted_and_named_after_its_file(name, variant):
    config = MODULES[name].get_config(variant)
    assert config.name == "-".join(filter(None, (name, variant)))
    model, phases = experiment.check(experiment.parse(config))
    assert model.name == config.model.name
    assert len(phases) == len(config.phases)


@pytest.mark.parametrize("name", MODULES)
def test_a_variant_trains_the_same_network_on_the_same_images(name):
    plain = MODULES[name].get_config()
    for variant in getattr(MODULES[name], "VARIANTS", {}):
        other = MODULES[name].get_config(variant)
        assert other.model.name == plain.model.name
        assert other.data == plain.data
        # The report gives two figures for VGG16, one with augmentation.
        assert bool(other.report_accuracy) == bool(plain.report_accuracy)


@pytest.mark.parametrize("name", MODULES)
def test_an_unknown_variant_is_answered_with_the_known_ones(name):
    known = ", ".join(getattr(MODULES[name], "VARIANTS", {})) or "it has none"
    with pytest.raises(UserError, match=f"{name} has no such variant .*{known}"):
        MODULES[name].get_config("better")


@pytest.mark.parametrize("path", PUBLISHED, ids=lambda p: p.parent.parent.name)
def test_published_runs_are_of_these_experiments(path):
    """So that nobody changes a recipe whose results are published."""
    stored = json.loads(path.read_text())
    run = from_stored(stored)
    assert to_json(run) == stored
    name, _, variant = run.name.partition("-")
    config = MODULES[name].get_config(variant.replace("-", ","))
    config.seed = run.seed
    # The command of a result may name the type to compute in.
    config.dtype = run.dtype
    # ImageNet's weights may lie anywhere.
    config.model.pretrained = run.model.pretrained
    assert experiment.parse(config) == run
