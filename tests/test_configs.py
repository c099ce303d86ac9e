"""Every experiment in configs/, and each of its variants."""

import dataclasses
import importlib
import json
import re

import pytest

from mnist_jax import experiment, models
from mnist_jax.config import Model, from_stored, to_json
from mnist_jax.data import DIGITS
from mnist_jax.errors import UserError
from mnist_jax.runs.folder import flatten
from tests.conftest import ROOT

MODULES = {
    path.stem: importlib.import_module(f"configs.{path.stem}")
    for path in (ROOT / "configs").glob("*.py")
    if path.stem not in ("__init__", "base")
}
VARIANTS = {name: getattr(module, "VARIANTS", {}) for name, module in MODULES.items()}
# Other ways to train the network of `imagenet`.
OF_THE_SAME = re.compile(r"(?!vgg16).*-(head_only|first_stages=.*)")
EXPERIMENTS = [
    pytest.param(
        name,
        variant,
        marks=[pytest.mark.exhaustive] * bool(OF_THE_SAME.match(f"{name}-{variant}")),
    )
    for name in MODULES
    for variant in ("", *VARIANTS[name])
]
PUBLISHED = sorted(ROOT.glob("results/*/seed*/config.json"))
every_experiment = pytest.mark.parametrize(("name", "variant"), EXPERIMENTS)


@pytest.fixture(scope="module", autouse=True)
def built_once():
    """Trace the shapes of a network once, whatever weights a variant begins with."""
    create, made = models.create, {}

    def create_once(model, task, **options):
        drawn = dataclasses.replace(model, pretrained="none", pretrained_layers=())
        key = repr((drawn, task, options))
        if key not in made:
            made[key] = create(model, task, **options)
        return made[key]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(models, "create", create_once)
        yield


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
    for variant in VARIANTS[name]:
        other = MODULES[name].get_config(variant)
        published = other.model.pretrained == "imagenet"
        named = variant == other.model.name
        assert published or named or other.model.name == plain.model.name
        # The report gives two figures for VGG16, one with augmentation, and none for
        # a part of the images.
        few = bool(other.data.train_size)
        assert bool(other.report_accuracy) == (bool(plain.report_accuracy) and not few)
        other.data.train_size = 0
        assert other.data == plain.data


@pytest.mark.parametrize("name", [x for x in MODULES if "imagenet" in VARIANTS[x]])
def test_a_published_network_has_a_variant_for_each_of_its_stages(name):
    whole, head = (MODULES[name].get_config(x) for x in ("imagenet", "head_only"))
    *body, last = models.create(Model(whole.model.name), DIGITS).stages
    stages = [x for x in VARIANTS[name] if x.startswith("first_stages=")]
    assert stages == [f"first_stages={n}" for n in range(1, len(body) + 1)]
    (frozen,) = head.phases[0].freeze
    assert head.model.pretrained_layers == head.phases[0].freeze
    layers = [f"{layer}/kernel" for stage in body for layer in stage]
    assert all(re.match(frozen, layer) for layer in layers)
    assert not any(re.match(frozen, f"{layer}/kernel") for layer in last)
    for n, variant in enumerate(stages, start=1):
        config = MODULES[name].get_config(variant)
        assert not config.phases[0].freeze
        taken = [
            any(re.match(x, layer) for x in config.model.pretrained_layers)
            for layer in layers
        ]
        count = sum(map(len, body[:n]))
        assert taken == [place < count for place in range(len(layers))]


@pytest.mark.parametrize("name", MODULES)
def test_an_unknown_variant_is_answered_with_the_known_ones(name):
    known = ", ".join(VARIANTS[name]) or "it has none"
    with pytest.raises(UserError, match=f"{name} has no such variant .*{known}"):
        MODULES[name].get_config("better")


@pytest.mark.parametrize("path", PUBLISHED, ids=lambda p: p.parent.parent.name)
def test_published_runs_are_of_these_experiments(path):
    """So that nobody changes a recipe whose results are published."""
    stored = json.loads(path.read_text())
    run = from_stored(stored)
    # Fields that came later have their defaults.
    known, fields = flatten(to_json(run)), flatten(stored)
    assert {field: known[field] for field in fields} == fields
    name, *variants = run.name.split("-")
    known = [variant for variant in variants if variant in VARIANTS[name]]
    config = MODULES[name].get_config(",".join(known))
    for varied in set(variants) - set(known):  # by `mnist-jax sweep --vary`
        field, _, value = varied.partition("=")
        config.data[field] = int(value)
        config.name = f"{config.name}-{varied}"
    if config.data.train_size:
        config.data.subset_seed = run.seed
    config.seed = run.seed
    # The command of a result may name the type to compute in.
    config.dtype = run.dtype
    # ImageNet's weights may lie anywhere.
    config.model.pretrained = run.model.pretrained
    # JSON has lists for the tuples of a network's options.
    run = dataclasses.replace(run, model=models.complete(run.model))
    assert experiment.parse(config) == run
