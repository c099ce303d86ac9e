"""Fields of a config: checked in one place, and named in every message."""

import dataclasses
import typing
from typing import Any

import pytest

from configs import base
from mnist_jax import config, models
from mnist_jax.config import ConfigError, Experiment, parse, to_json
from mnist_jax.config.border import to_config_dict
from mnist_jax.data import DIGITS, augment
from mnist_jax.models import imagenet, layers, vgg
from mnist_jax.training import monitors, optimizer, schedules


def sections(section: Any = Experiment):
    """Every dataclass of a config."""
    yield section
    for field in config.fields_of(section).values():
        for value in (
            field.default if isinstance(field.default, tuple) else [field.default]
        ):
            if dataclasses.is_dataclass(value):
                yield from sections(type(value))


def test_defaults_come_back_from_a_config_dict_and_from_json():
    assert parse(to_config_dict(Experiment()), Experiment) == Experiment()
    assert parse(to_json(Experiment()), Experiment) == Experiment()


@pytest.mark.parametrize("section", list(sections()))
def test_every_field_is_explained_and_every_default_allowed(section):
    for name, field in config.fields_of(section).items():
        assert config.doc_of(field).endswith("."), name
    assert parse(to_json(section()), section) == section()


@pytest.mark.parametrize(
    ("section", "field", "table"),
    [
        (config.Optimizer, "name", optimizer.OPTIMIZERS),
        (config.Schedule, "name", schedules.SCHEDULES),
        (config.Best, "monitor", monitors.SIGNS),
        (config.Plateau, "monitor", [config.OFF, *monitors.SIGNS]),
        (config.EarlyStopping, "monitor", [config.OFF, *monitors.SIGNS]),
        (config.Augment, "centre", augment.CENTRES),
        (vgg.VGG16, "kernel_init", layers.KERNEL_INITS),
    ],
)
def test_the_names_that_a_field_allows_are_those_of_the_table(section, field, table):
    assert list(typing.get_args(config.fields_of(section)[field].type)) == list(table)


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("seed", -1, "--config.seed=-1: must be at least 0 and below 4294967296."),
        ("seed", 1.5, "--config.seed=1.5: must be a whole number."),
        ("seed", True, "--config.seed=True: must be a whole number."),
        ("seed", 10**400, "--config.seed=1000"),
        ("augment.zoom", 10**400, "zoom=1000"),
        ("eval_batch_size", 10**400, "eval_batch_size=1000"),
        ("name", 3, "--config.name=3: must be a string."),
        *(
            ("name", name, f"--config.name={name!r}: not the name of a folder.")
            for name in ("", ".", "../x", "x/../../y", "/x", "\x1b[31m")
        ),
        ("dtype", "float16", "--config.dtype=float16: unknown (known: float32, bf"),
        ("augment.zoom", float("nan"), "--config.augment.zoom=nan: must be at le"),
        ("augment.elastic_smoothness", 0.0, "smoothness=0.0: must be above 0."),
        ("augment.zoom", "much", "--config.augment.zoom=much: must be a number."),
        ("augment", 3, "--config.augment=3: must be a section with the fields nam"),
        ("phases", 3, "--config.phases=3: must be a list."),
        ("phases", [3], "--config.phases[0]=3: must be a section with the fields"),
        ("phases.0.epochs", 0, "--config.phases[0].epochs=0: must be at least 1."),
        ("phases.0.freeze", [1], "--config.phases[0].freeze[0]=1: must be a string."),
        ("phases.0.optimizer.nesterov", 1, "nesterov=1: must be True or False."),
        ("sed", 3, '--config.sed: no such field. Did you mean "seed"?'),
        ("best.x", 3, "--config.best.x: no such field. It has monitor."),
    ],
)
def test_a_bad_value_is_named_with_what_is_allowed(path, value, message):
    values = to_json(Experiment())
    part = values
    *names, last = [int(n) if n.isdigit() else n for n in path.split(".")]
    for name in names:
        part = part[name]
    part[last] = value
    with pytest.raises(ConfigError) as caught:
        parse(values, Experiment)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_whole_numbers_are_numbers():
    found = parse({"rotation": 10}, config.Augment)
    assert found.rotation == 10.0 and isinstance(found.rotation, float)


@pytest.mark.parametrize("section", [base.get_config(), base.get_phase()])
def test_a_config_is_locked_all_the_way_down(section):
    with pytest.raises(AttributeError, match='Did you mean "name"'):
        section.nam = "x"
    inner = section if "optimizer" in section else section.phases[0]
    with pytest.raises(KeyError, match='Did you mean "momentum"'):
        inner.optimizer.update(momentun=0.9)


@pytest.mark.parametrize("name", models.MODELS)
def test_a_network_has_its_own_options_and_no_others(name):
    fields = set(base.get_model(name)) - {"name", "pretrained", "pretrained_layers"}
    assert fields == set(models.options_of(name))
    module = models.create(parse(base.get_model(name), config.Model), DIGITS).module
    for option, field in models.options_of(name).items():
        assert getattr(module, option) == field.default
    published = isinstance(module, vgg.VGG16 | imagenet.Published)
    assert ("input_size" in fields) == published


def test_options_reach_the_module_and_are_all_kept():
    model = models.complete(config.Model("vgg16", options={"input_size": 48}))
    assert models.create(model, DIGITS).module.input_size == 48  # type: ignore[attr-defined]
    stored = to_json(model)
    assert stored["preprocess"] == "unit" and "options" not in stored
    assert parse(stored, config.Model) == model


@pytest.mark.parametrize(
    ("name", "option", "message"),
    [
        (
            "vgg16",
            "input_siz",
            'name=vgg16, --config.model.input_siz: .*mean "input_size"',
        ),
        ("lenet5", "input_size", "name=lenet5, .*input_size: no such field"),
        ("lenet6", "input_size", "name=lenet6: no such network .*lenet5"),
    ],
)
def test_an_option_that_a_network_lacks_is_refused(name, option, message):
    with pytest.raises(ConfigError, match=message):
        models.complete(config.Model(name, options={option: 32}))
