"""Every field of an experiment: its name, type, default, meaning and range, once.

`Experiment` and the dataclasses below it are the source. Config files and flags give an
`ml_collections.ConfigDict` with the same fields (`to_config_dict`); `parse` turns that,
or the contents of a config.json, into an `Experiment`, and no other module sees either.
"""

from mnist_jax.config.experiment import (
    OFF,
    Augment,
    Best,
    Data,
    EarlyStopping,
    Experiment,
    Model,
    Optimizer,
    Phase,
    Plateau,
    Schedule,
)
from mnist_jax.config.fields import (
    ConfigError,
    did_you_mean,
    doc_of,
    fields_of,
    option,
    parse,
    parse_options,
    to_json,
    type_name,
)
from mnist_jax.config.upgrade import from_stored, to_stored, upgrade

__all__ = [
    "OFF",
    "Augment",
    "Best",
    "ConfigError",
    "Data",
    "EarlyStopping",
    "Experiment",
    "Model",
    "Optimizer",
    "Phase",
    "Plateau",
    "Schedule",
    "did_you_mean",
    "doc_of",
    "fields_of",
    "from_stored",
    "option",
    "parse",
    "parse_options",
    "to_json",
    "to_stored",
    "type_name",
    "upgrade",
]
