"""Configs as `ml_collections.ConfigDict`, for config files and the command line."""

from typing import Any

from ml_collections import config_dict

from mnist_jax.config.fields import fields_of


def to_config_dict(section: Any) -> config_dict.ConfigDict:
    """Return an `Experiment`, or a section of one, as a ConfigDict.

    It is locked, so that a misspelt field raises an error.
    """
    values = {name: _as_value(getattr(section, name)) for name in fields_of(section)}
    values |= getattr(section, "options", {})
    return config_dict.ConfigDict(values).lock()


def _as_value(value: Any) -> Any:
    if hasattr(value, "__dataclass_fields__"):
        return to_config_dict(value)
    if isinstance(value, tuple):
        return tuple(map(_as_value, value))
    return config_dict.placeholder(str) if value is None else value
