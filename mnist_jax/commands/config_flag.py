"""The flag --config: the file of an experiment, and overrides of its fields."""

import difflib
import functools
import importlib.util
import re
import runpy
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from absl import flags
from ml_collections import ConfigDict, config_flags

from mnist_jax.config import ConfigError, Experiment, did_you_mean
from mnist_jax.config.border import to_config_dict
from mnist_jax.errors import UserError

flags.disclaim_key_flags()  # --config belongs to the command that calls `define`

FOLDER = Path(__file__).resolve().parents[2] / "configs"
"""The experiments of this project."""

_LISTED = " mnist-jax fields lists the fields."
_OVERRIDE = re.compile(r"--?(?:no)?config\.([^=]+)")


class _Parser(flags.ArgumentParser):
    """Loads the file with errors that name it, and checks the names of overrides."""

    def parse(self, argument: str) -> ConfigDict:
        config = load(argument)
        for each in flags.FLAGS.read_flags_from_files(sys.argv, force_gnu=False):
            if match := _OVERRIDE.match(each):
                check_override(config, match[1])
        return config


def define() -> flags.FlagHolder:
    """Define --config."""
    holder = config_flags.DEFINE_config_file(
        "config", None, "The experiment: a file in configs/. Precedes its overrides."
    )
    flags.FLAGS["config"].parser = _Parser()
    return holder


def files() -> list[Path]:
    """Return the files of the project's experiments."""
    return sorted(
        path for path in FOLDER.glob("*.py") if path.stem not in ("__init__", "base")
    )


def known_files() -> str:
    """List the project's experiments for a message, relative to this folder."""
    here = Path.cwd()
    shortest = [
        str(path.relative_to(here) if path.is_relative_to(here) else path)
        for path in files()
    ]
    return f"Known: {', '.join(shortest)}."


def load(argument: str) -> ConfigDict:
    """Return the locked config that a file defines.

    Args:
        argument: FILE or FILE:VARIANT. FILE may be the name of one of the project's
            experiments, such as lenet5.

    Raises:
        UserError: there is no such file or variant, or the file defines no experiment;
            the message names the file and the line of the error.
    """
    name, colon, variant = argument.partition(":")
    path = Path(name)
    if not path.exists() and (FOLDER / f"{name}.py") in files():
        path = FOLDER / f"{name}.py"
    if not path.is_file():
        raise ConfigError(f"--config={name}: no such file. {known_files()}")
    if path.suffix != ".py":
        raise ConfigError(
            f"--config={name}: not an experiment, which is a Python file with a "
            f"function get_config(). {known_files()}"
        )
    if importlib.util.find_spec("configs") is None:  # not run from the checkout
        sys.path.append(str(FOLDER.parent))
    try:
        get_config = runpy.run_path(str(path)).get("get_config")
        if get_config is None:
            raise ConfigError(f"{name}: has no function get_config().")
        config = get_config(variant) if colon else get_config()
    except UserError:
        raise
    except Exception as error:
        raise ConfigError(f"{name}{_line_of(error, path)}: {_reason(error)}") from error
    if not isinstance(config, ConfigDict):
        raise ConfigError(
            f"{name}: get_config() returned {type(config).__name__}, not the config "
            "that base.get_config() makes."
        )
    return config.lock()


def check_override(config: ConfigDict, name: str) -> None:
    """Raise ConfigError unless `name`, such as "phases[0].epochs", is a field."""
    value: Any = config
    at = "--config"
    for part in re.findall(r"[^.\[\]]+", name):
        if isinstance(value, ConfigDict):
            if part not in value:
                raise ConfigError(_describe_unknown(config, value, at, part))
            value, at = value[part], f"{at}.{part}"
        elif not isinstance(value, tuple):
            raise ConfigError(f"--config.{name}: {at} is a value without fields.")
        elif not part.isdecimal():
            raise ConfigError(
                f"--config.{name}: {at} is a list. The first entry's field is "
                f"{at}[0].{part}."
            )
        elif int(part) >= len(value):
            raise ConfigError(
                f"--config.{name}: {at} has no entry {part}. The first is {at}[0]."
            )
        else:
            value, at = value[int(part)], f"{at}[{part}]"
    field = next(_fields_in(value, at), at)
    if field != at:
        raise ConfigError(
            f"--config.{name}: a section cannot be set as a whole. Set its fields, "
            f"such as {field}."
        )


def suggestion(name: str) -> str:
    """Return a hint for an unknown flag that resembles a flag or a config field."""
    config = flags.FLAGS["config"].value or to_config_dict(Experiment())
    fields = {field.rpartition(".")[2] for field in _fields_in(config)}
    similar = functools.partial(difflib.get_close_matches, name, n=1, cutoff=0.8)
    found = [f"--{flag}" for flag in similar(list(flags.FLAGS))]
    found += filter(None, [_find(config, field) for field in (name, *similar(fields))])
    return f". Did you mean {' or '.join(dict.fromkeys(found))}?" if found else ""


def _describe_unknown(
    config: ConfigDict, section: ConfigDict, at: str, name: str
) -> str:
    """Return the message about an unknown field of a section."""
    if at == "--config.model" and (networks := _networks_with(name)):
        return (
            f"{at}.{name}: an option of {' and '.join(networks)}, not of "
            f"{section.name}. Flags set the options of the network that the config "
            f"file chooses, with config.model = base.get_model({networks[0]!r})."
        )
    same = _find(config, name)
    hint = f" Did you mean {same}?" if same else did_you_mean(name, section.keys())
    return f"{at}.{name}: no such field.{hint or _LISTED}"


def _find(config: ConfigDict, name: str) -> str:
    """Find a field or section by its last name; return "" if there is none."""
    parts = (f"{field}.".partition(f".{name}.") for field in _fields_in(config))
    found = [above + f".{name}" for above, match, _ in parts if match]
    return min(found, key=len, default="")


def _fields_in(value: Any, name: str = "--config") -> Iterator[str]:
    """Yield the names of all fields in a section, at any depth."""
    if isinstance(value, ConfigDict):
        for key in value.keys():
            yield from _fields_in(value.get_ref(key).get(), f"{name}.{key}")
    elif isinstance(value, tuple) and value and isinstance(value[0], ConfigDict):
        for index, item in enumerate(value):
            yield from _fields_in(item, f"{name}[{index}]")
    else:
        yield name


def _networks_with(option: str) -> list[str]:
    """Return the names of the networks that have an option."""
    from mnist_jax import models  # imported late: Flax takes a second

    return [name for name in models.MODELS if option in models.options_of(name)]


def _line_of(error: BaseException, path: Path) -> str:
    """Return where in a file an error was raised, as ", line 7"."""
    if isinstance(error, SyntaxError) and error.filename == str(path):
        return f", line {error.lineno}"
    frames = traceback.extract_tb(error.__traceback__)
    lines = [frame.lineno for frame in frames if frame.filename == str(path)]
    return f", line {lines[-1]}" if lines else ""


def _reason(error: BaseException) -> str:
    """Describe an error in a config file on one line."""
    if isinstance(error, SyntaxError):
        return f"{error.msg}."
    kind = type(error).__name__
    while error.args and isinstance(error.args[0], BaseException):
        error = error.args[0]
    text = str(error.args[0]) if error.args else ""
    # The messages of ml_collections about an unknown field.
    match = re.match(r"Key \"(\w+)\" does not exist|'(\w+)'(?:\n|$)", text)
    if not match:
        return f"{kind}: {' '.join(text.split())}"
    name = match[1] or match[2]
    if similar := re.search(r'Did you mean "\w+"', text):
        return f'there is no field "{name}". {similar[0]}?'
    if networks := _networks_with(name):
        return (
            f'"{name}" is an option of {" and ".join(networks)}. Choose one of them '
            f"first: config.model = base.get_model({networks[0]!r})."
        )
    return f'there is no field "{name}".{_LISTED}'
