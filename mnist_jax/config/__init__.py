"""The fields of an experiment: names, types, defaults, meanings and ranges.

`Experiment` and the dataclasses in it define them. Config files and flags build an
`ml_collections.ConfigDict` with the same fields (`to_config_dict`), which `parse` turns
into an `Experiment`; no other module sees a ConfigDict.
"""
# ruff: noqa: F401 - the names are imported for other modules

from mnist_jax.config.augment import Augment
from mnist_jax.config.experiment import (
    OFF,
    Best,
    Data,
    EarlyStopping,
    Experiment,
    Log,
    Model,
    Optimizer,
    Phase,
    Plateau,
    Schedule,
    from_stored,
)
from mnist_jax.config.fields import (
    ConfigError,
    can_be_parsed,
    did_you_mean,
    doc_of,
    fields_of,
    is_name,
    option,
    parse,
    parse_options,
    to_json,
    type_name,
)
from mnist_jax.config.importable import load_object
