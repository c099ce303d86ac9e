"""Objects outside the package, named by a dotted path such as `my_nets:MLP`."""

import importlib
import os
import sys
from typing import Any

from mnist_jax.config.fields import ConfigError


def load_object(path: str, flag: str) -> Any:
    """Import `module:name`, from the current folder or wherever Python finds modules.

    Args:
        path: the module, a colon, and the name of the object in it.
        flag: such as "--config.model.name", for messages.

    Raises:
        ConfigError: there is no such module, or no such object in it. (Errors that the
            module raises when it is imported are its own.)
    """
    module_name, _, name = path.partition(":")
    here = os.getcwd()
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
            raise  # something that the module itself imports
        raise ConfigError(
            f"{flag}={path}: there is no module {error.name} in {here} or elsewhere on "
            "Python's path. Start from the folder that has it, or add that to "
            "PYTHONPATH."
        ) from error
    except (TypeError, ValueError) as error:  # "", ".x"
        raise ConfigError(f"{flag}={path}: {error}.") from error
    try:
        return getattr(module, name)
    except AttributeError as error:
        raise ConfigError(f"{flag}={path}: {module_name} has no {name!r}.") from error
