"""The contents of config.json, in this version's layout and in every earlier one."""

from collections.abc import Iterator
from typing import Any

from mnist_jax.config.experiment import Experiment
from mnist_jax.config.fields import ConfigError, parse, to_json

FORMAT = 2
"""Version of the layout, in the field "format" of config.json; 1 had no such field."""

# What runs did before there was a field to say so.
_LATER = {
    "augment": {
        "rotation": 0.0,
        "zoom": 0.0,
        "shift": 0.0,
        "shear": 0.0,
        "centre": "image",
        "elastic": 0.0,
        "elastic_smoothness": 4.0,
        "erasing": 0.0,
        "erasing_area": [0.02, 0.2],
    },
    "report_accuracy": 0.0,
    "dtype": "float32",
    "parallel": "jit",
    "convolutions": "auto",
    "features_megabytes": 1000.0,
}
_LATER_IN = {
    "data": {"test_on": "test"},
    "model": {"pretrained": "none", "pretrained_layers": [".*"]},
}
_LATER_IN_PHASES = {
    "start_from": "last",
    "schedule": {
        "name": "constant",
        "warmup_epochs": 0.0,
        "final_factor": 0.0,
        "rising": 0.3,
        "first_factor": 0.04,
        "decay_rate": 0.95,
    },
    "plateau": {
        "monitor": "none",
        "patience": 3,
        "factor": 0.5,
        "min_delta": 1e-4,
        "cooldown": 0,
        "min_learning_rate": 0.0,
    },
    "early_stopping": {
        "monitor": "none",
        "patience": 6,
        "min_delta": 0.0,
        "restore_best": False,
    },
    "label_smoothing": 0.0,
    "ema_decay": 0.0,
    "freeze": [],
    "layer_rates": [],
    "reuse_features": "auto",
}
_LATER_IN_OPTIMIZERS = {
    "decay": 0.9,
    "eps_in_sqrt": False,
    "momentum": 0.0,
    "nesterov": False,
    "weight_decay": 0.0,
    "clip_norm": 0.0,
}
# In format 1 every config had these, and only the two networks used them.
_OF_VGG = {"input_size": 32, "preprocess": "unit", "kernel_init": "glorot_uniform"}
_VGGS = ("vgg16", "vgg19")


def to_stored(experiment: Experiment) -> dict[str, Any]:
    """Return the contents of config.json: nested dicts and lists."""
    return {"format": FORMAT} | to_json(experiment)


def from_stored(stored: dict[str, Any], *, name: str = "config.json") -> Experiment:
    """Return the experiment of a config.json, written by this or an earlier version.

    Args:
        stored: the contents: nested dicts and lists.
        name: the name of the file, for messages.

    Raises:
        ConfigError: a newer version wrote it, or a field is missing, is unknown or has
            a value that it cannot have.
    """
    version = stored.get("format", 1)
    if version not in (1, FORMAT):
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
    """Return a stored config with the fields of this version, and without "format".

    Only what earlier versions wrote differently is changed; nothing is checked.

    Args:
        old: the contents of config.json: nested dicts and lists.
    """
    new = {name: value for name, value in old.items() if name != "format"}
    if "format" in old:
        return new
    new = _LATER | new
    for section, later in _LATER_IN.items():
        if isinstance(new.get(section), dict):
            new[section] = later | new[section]
    if isinstance(new.get("model"), dict):
        new["model"] = _upgrade_model(new["model"])
    if isinstance(new.get("phases"), list):
        new["phases"] = [_upgrade_phase(phase) for phase in new["phases"]]
    return new


def _upgrade_model(old: dict[str, Any]) -> dict[str, Any]:
    new = {name: value for name, value in old.items() if name not in _OF_VGG}
    if old.get("name") in _VGGS:
        new |= {name: old.get(name) or value for name, value in _OF_VGG.items()}
    return new


def _upgrade_phase(old: Any) -> Any:
    if not isinstance(old, dict):
        return old
    new = _LATER_IN_PHASES | old
    if isinstance(new.get("optimizer"), dict):
        new["optimizer"] = _LATER_IN_OPTIMIZERS | new["optimizer"]
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
