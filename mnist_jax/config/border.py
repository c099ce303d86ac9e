"""Configs as `ml_collections` has them, for config files and the command line."""

from typing import Any

from ml_collections import config_dict

from mnist_jax.config.fields import fields_of


def to_config_dict(section: Any) -> config_dict.ConfigDict:
    """Return a section as a locked ConfigDict: a field cannot be added by mistake.

    Args:
        section: an instance of `Experiment` or of a dataclass below it.
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
