"""Objects outside the package, named by a dotted path such as `my_nets:MLP`."""

import importlib
import os
import sys
from typing import Any

from mnist_jax.config.fields import ConfigError, did_you_mean


def load_object(path: str, flag: str) -> Any:
    """Import `module:name`, from the current folder or wherever Python finds modules.

    Args:
        path: the module, a colon, and the name of the object in it.
        flag: such as "--config.model.name", for messages.

    Raises:
        ConfigError: there is no such module, it cannot be imported, or it has no such
            object.
    """
    module_name, _, name = path.partition(":")
    here = os.getcwd()
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        module = importlib.import_module(module_name)
    except Exception as error:
        raise ConfigError(
            f"{flag}={path}: {module_name} cannot be imported: {type(error).__name__}: "
            f"{' '.join(str(error).split())}. Python looks in {here} and on its path: "
            "start from the folder of the module, or add that to PYTHONPATH."
        ) from error
    if not hasattr(module, name):
        hint = did_you_mean(name, vars(module))
        raise ConfigError(f"{flag}={path}: {module_name} has no {name!r}.{hint}")
    return getattr(module, name)
