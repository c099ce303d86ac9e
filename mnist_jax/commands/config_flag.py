"""The flag --config: the file of an experiment."""

import re
import runpy
import traceback
from collections.abc import Iterator
from pathlib import Path

from absl import flags
from ml_collections import ConfigDict, config_flags

from mnist_jax import commands, configs, files
from mnist_jax.config import ConfigError
from mnist_jax.errors import UserError

flags.disclaim_key_flags()  # --config belongs to the command that calls `define`

_FOLDER = Path(configs.__path__[0])


class _Parser(flags.ArgumentParser):
    """Loads the file, with errors that name it."""

    def parse(self, argument: str) -> ConfigDict:
        return load(argument)


def define() -> flags.FlagHolder:
    """Define --config."""
    holder = config_flags.DEFINE_config_file(
        "config",
        None,
        "The experiment: a name from `mnist-jax list` or a Python file, with or "
        "without :VARIANT. Precedes overrides of its fields.",
    )
    flags.FLAGS["config"].parser = _Parser()
    return holder


def names() -> list[str]:
    """Return the names of the project's experiments."""
    stems = sorted(path.stem for path in _FOLDER.glob("*.py"))
    return [stem for stem in stems if stem not in ("__init__", "base")]


def known() -> str:
    """List the project's experiments for a message."""
    return f"Known: {', '.join(names())}, or the path of a file."


def described() -> Iterator[tuple[str, str]]:
    """Yield the name and the description of each of the project's experiments."""
    for name in names():
        path = _FOLDER / f"{name}.py"
        try:
            found = runpy.run_path(str(path)).get("VARIANTS", {})
        except Exception as error:
            yield name, f"Not usable{_reason(error, path)}"
            continue
        variants = dict.fromkeys(re.sub(r"=\d+$", "=N", each) for each in found)
        after = f" Variants: {', '.join(variants)}." if variants else ""
        yield name, commands.first_line(path) + after


def load(argument: str) -> ConfigDict:
    """Return the locked config of FILE or FILE:VARIANT.

    FILE is a path, with or without its ending, or the name of one of the project's
    experiments. The user's own files come first.

    Raises:
        UserError: there is no such file or variant, or the file defines no experiment;
            the message names the file and the line of the error.
    """
    name, colon, variant = argument, "", ""
    if not (path := _find(name)):  # a path may have a colon in it
        name, colon, variant = argument.rpartition(":")
        path = _find(name)
    if not path:
        name = name or argument
        raise ConfigError(f"--config={name}: no such Python file. {known()}")
    try:
        get_config = runpy.run_path(str(path))["get_config"]
        return (get_config(variant) if colon else get_config()).lock()
    except UserError:
        raise
    except Exception as error:
        raise ConfigError(f"{name}{_reason(error, path)}") from error


def _find(name: str) -> Path | None:
    """Return the Python file that a name without a variant means, if there is one."""
    own = files.expand(name)
    project = [_FOLDER / f"{name}.py"] if name in names() else []
    paths = (own, Path(f"{own}.py"), *project)
    return next((p for p in paths if p.is_file() and p.suffix == ".py"), None)


def one_line(error: BaseException) -> str:
    """Return an error's message without line breaks."""
    while error.args and isinstance(error.args[0], BaseException):
        error = error.args[0]
    text = str(error.args[0]) if error.args else type(error).__name__
    return " ".join(text.split()).rstrip(".")


def _reason(error: Exception, path: Path) -> str:
    """Return the line of a file in which an error was raised, and the error."""
    frames = traceback.extract_tb(error.__traceback__)
    lines = [frame.lineno for frame in frames if frame.filename == str(path)]
    if isinstance(error, SyntaxError) and error.filename == str(path):
        lines.append(error.lineno)
    where = f", line {lines[-1]}" if lines else ""
    return f"{where}: {type(error).__name__}: {one_line(error)}."
