"""The contents of config.json, in the layout of this version and of earlier ones."""

from collections.abc import Iterator
from typing import Any

from mnist_jax.config.experiment import (
    Augment,
    Data,
    Experiment,
    Model,
    Optimizer,
    Phase,
)
from mnist_jax.config.fields import ConfigError, parse, to_json

FORMAT = 4
"""Version of the layout, in the field "format" of config.json.

Format 1 had no such field, format 2 no section `log` and format 3 no `augment.fade`.
"""

# Fields that the first config.json files lacked. Their defaults mean what runs did
# before they existed; if such a default ever changes, its old value belongs here.
_NEW_IN_EXPERIMENT = (
    "augment report_accuracy dtype parallel convolutions features_megabytes"
)
_NEW_IN_MODEL = "pretrained pretrained_layers"
_NEW_IN_PHASE = (
    "start_from schedule plateau early_stopping label_smoothing ema_decay freeze "
    "layer_rates reuse_features"
)
_NEW_IN_OPTIMIZER = "decay eps_in_sqrt momentum nesterov weight_decay clip_norm"

# In format 1 every config had these, but only the two networks used them.
_VGG_OPTIONS = {
    "input_size": 32,
    "preprocess": "unit",
    "kernel_init": "glorot_uniform",
}
_VGGS = ("vgg16", "vgg19")


def to_stored(experiment: Experiment) -> dict[str, Any]:
    """Return the contents of config.json: nested dicts and lists."""
    return {"format": FORMAT} | to_json(experiment)


def from_stored(stored: dict[str, Any], *, name: str = "config.json") -> Experiment:
    """Return the experiment of a config.json that this or an earlier version wrote.

    Args:
        stored: its contents.
        name: the name of the file, for messages.

    Raises:
        ConfigError: a newer version wrote it, or a field is missing, unknown or has an
            invalid value.
    """
    version = stored.get("format", 1)
    if version not in range(1, FORMAT + 1):
        raise ConfigError(
            f"{name} was written by a newer version of mnist_jax (format {version}; "
            f"this version reads up to {FORMAT}). Use that version."
        )
    new = upgrade(stored)
    experiment = parse(new, Experiment, flag=f"{name}: config")
    for path in _missing(new, to_json(experiment), "config"):
        raise ConfigError(f"{name} is damaged: it has no {path}.")
    return experiment


def upgrade(old: dict[str, Any]) -> dict[str, Any]:
    """Return a stored config in this version's layout, without "format".

    Changes only what earlier versions wrote differently, and checks nothing.
    """
    new = {name: value for name, value in old.items() if name != "format"}
    version = old.get("format", 1)
    if version in (1, 2):
        new = _add(new, "log", Experiment())
    if version in (1, 2, 3) and isinstance(new.get("augment"), dict):
        new["augment"] = _add(new["augment"], "fade", Augment())
    if "format" in old:
        return new
    new = _add(new, _NEW_IN_EXPERIMENT, Experiment())
    if isinstance(new.get("data"), dict):
        new["data"] = _add(new["data"], "test_on", Data())
    if isinstance(new.get("model"), dict):
        new["model"] = _upgrade_model(new["model"])
    if isinstance(new.get("phases"), list):
        new["phases"] = [_upgrade_phase(phase) for phase in new["phases"]]
    return new


def _add(stored: dict[str, Any], names: str, section: Any) -> dict[str, Any]:
    """Add the fields of these names that are missing, with their defaults."""
    defaults = to_json(section)
    return {name: defaults[name] for name in names.split()} | stored


def _upgrade_model(old: dict[str, Any]) -> dict[str, Any]:
    new = {name: value for name, value in old.items() if name not in _VGG_OPTIONS}
    if old.get("name") in _VGGS:
        new |= {name: old.get(name) or value for name, value in _VGG_OPTIONS.items()}
    return _add(new, _NEW_IN_MODEL, Model())


def _upgrade_phase(old: Any) -> Any:
    if not isinstance(old, dict):
        return old
    new = _add(old, _NEW_IN_PHASE, Phase())
    if isinstance(new.get("optimizer"), dict):
        new["optimizer"] = _add(new["optimizer"], _NEW_IN_OPTIMIZER, Optimizer())
    return new


def _missing(stored: Any, whole: Any, name: str) -> Iterator[str]:
    """Yield the names of the fields that `whole` has and `stored` lacks."""
    if isinstance(whole, dict):
        for field, value in whole.items():
            if field in stored:
                yield from _missing(stored[field], value, f"{name}.{field}")
            else:
                yield f"{name}.{field}"
    elif isinstance(whole, list):
        for index, (one, other) in enumerate(zip(stored, whole, strict=True)):
            yield from _missing(one, other, f"{name}[{index}]")
