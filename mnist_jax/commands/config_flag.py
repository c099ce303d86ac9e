"""The flag --config: the file of an experiment, and overrides of its fields."""

import ast
import difflib
import re
import runpy
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from absl import flags
from ml_collections import ConfigDict, config_flags

from mnist_jax.config import ConfigError, Experiment
from mnist_jax.config.border import to_config_dict
from mnist_jax.errors import UserError

flags.disclaim_key_flags()  # --config belongs to the command that calls `define`

FOLDER = Path(__file__).resolve().parents[2] / "configs"
"""The experiments of this project, which are installed with it."""

_OVERRIDE = re.compile(r"--?(?:no)?(config\.[^=]+)")


class _Parser(flags.ArgumentParser):
    """Loads the file with errors that name it, and checks the names of overrides."""

    def parse(self, argument: str) -> ConfigDict:
        config = load(argument)
        known = set(_fields_in(config))
        for each in flags.FLAGS.read_flags_from_files(sys.argv, force_gnu=False):
            if (match := _OVERRIDE.match(each)) and match[1] not in known:
                hint = did_you_mean(match[1], config)
                raise ConfigError(
                    f"--{match[1]}: no such field.{hint} mnist-jax fields lists the "
                    "fields."
                )
        return config


def define() -> flags.FlagHolder:
    """Define --config."""
    holder = config_flags.DEFINE_config_file(
        "config",
        None,
        "The experiment: a file, or the name of one of the configs below, with or "
        "without :VARIANT. Precedes overrides of its fields.",
    )
    flags.FLAGS["config"].parser = _Parser()
    return holder


def names() -> list[str]:
    """Return the names of the project's experiments."""
    stems = sorted(path.stem for path in FOLDER.glob("*.py"))
    return [stem for stem in stems if stem not in ("__init__", "base")]


def known() -> str:
    """List the project's experiments for a message."""
    return f"Known: {', '.join(names())}, or a file of your own."


def describe() -> str:
    """List the project's experiments with the first lines of their docstrings."""
    lines = []
    for name in names():
        text = (FOLDER / f"{name}.py").read_text()
        docstring = ast.get_docstring(ast.parse(text)) or ""
        lines.append(f"  {name:16s} {docstring.splitlines()[0]}")
    return "\n".join(lines)


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
    path = Path(name).expanduser()
    if not path.exists() and name in names():
        path = FOLDER / f"{name}.py"
    if not path.is_file() or path.suffix != ".py":
        raise ConfigError(f"--config={name}: no such Python file. {known()}")
    try:
        get_config = runpy.run_path(str(path))["get_config"]
        config = get_config(variant) if colon else get_config()
    except UserError:
        raise
    except Exception as error:
        raise ConfigError(
            f"{name}{_line_of(error, path)}: {type(error).__name__}: {one_line(error)}."
        ) from error
    if not isinstance(config, ConfigDict):
        raise ConfigError(
            f"{name}: get_config() returned {type(config).__name__}, not the config "
            "that base.get_config() makes."
        )
    return config.lock()


def did_you_mean(name: str, config: ConfigDict | None = None) -> str:
    """Return a hint for an unknown flag that resembles a flag or a config field.

    Args:
        name: the flag, without dashes: "wokdir", "epochs" or "config.sed".
        config: has the fields; by default the value of --config.
    """
    known = {flag: flag for flag in flags.FLAGS}
    if "config" in flags.FLAGS:
        config = config or flags.FLAGS["config"].value or to_config_dict(Experiment())
        fields = list(_fields_in(config))
        known |= {field: field for field in fields}
        known |= {field.rpartition(".")[2]: field for field in reversed(fields)}
    last = name.rpartition(".")[2]
    close = [last] if last in known else difflib.get_close_matches(name, known, n=1)
    return f" Did you mean --{known[close[0]]}?" if close else ""


def one_line(error: BaseException) -> str:
    """Return an error's message without line breaks."""
    while error.args and isinstance(error.args[0], BaseException):
        error = error.args[0]
    text = str(error.args[0]) if error.args else type(error).__name__
    return " ".join(text.split()).rstrip(".")


def _fields_in(value: Any, name: str = "config") -> Iterator[str]:
    """Yield the names of all fields in a section, at any depth."""
    if isinstance(value, ConfigDict):
        for key in value.keys():
            yield from _fields_in(value.get_ref(key).get(), f"{name}.{key}")
    elif isinstance(value, tuple) and value and isinstance(value[0], ConfigDict):
        for index, item in enumerate(value):
            yield from _fields_in(item, f"{name}[{index}]")
    else:
        yield name


def _line_of(error: BaseException, path: Path) -> str:
    """Return where in a file an error was raised, as ", line 7"."""
    if isinstance(error, SyntaxError) and error.filename == str(path):
        return f", line {error.lineno}"
    frames = traceback.extract_tb(error.__traceback__)
    lines = [frame.lineno for frame in frames if frame.filename == str(path)]
    return f", line {lines[-1]}" if lines else ""
