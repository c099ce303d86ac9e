"""What all commands share: parsing flags, and errors without tracebacks."""

import ast
import errno
import functools
import shlex
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from absl import app, flags, logging

from mnist_jax import console
from mnist_jax.commands import config_flag
from mnist_jax.config import ConfigError
from mnist_jax.errors import UserError

_EXIT_USAGE = 2
_NO_CONFIG = "--config is missing: it names the experiment. "


class Terminated(KeyboardInterrupt):
    """SIGTERM, which clusters send some time before SIGKILL."""


def run(
    main: Callable[..., Any],
    *,
    usage: str = "",
    verb: str = "",
    takes_config: bool = False,
    takes_arguments: bool = False,
    how_to_resume: Callable[[], str] | None = None,
) -> NoReturn:
    """Parse the flags, call `main`, and end the process.

    The exit status is 0, 1 for an error, 2 for bad flags, or 128 plus the signal's
    number after ctrl-C and SIGTERM, as in shells.

    Args:
        main: the command; gets the list of positional arguments if `takes_arguments`.
            The message of a UserError is printed without a traceback.
        usage: printed by --helpshort, above the flags.
        verb: the verb, if the first argument names one.
        takes_config: whether the command has the flag --config.
        takes_arguments: whether there may be positional arguments, such as folders.
        how_to_resume: returns the command that resumes after an interruption.
    """

    def resume() -> str:
        return f" To resume: {how_to_resume()}" if how_to_resume else ""

    def guarded(arguments: Sequence[str]) -> int:
        rest = list(arguments[2 if verb else 1 :])
        if rest and not takes_arguments:
            message = f"Unexpected argument {rest[0]!r}: flags are --name=value."
            _fail(message, _EXIT_USAGE)
        console.start()
        if not flags.FLAGS["verbosity"].present:
            # orbax logs every save and deletion at level INFO.
            logging.set_verbosity(logging.WARNING)
        signal.signal(signal.SIGTERM, _on_terminate)
        if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
            signal.signal(signal.SIGINT, signal.default_int_handler)
        try:
            main(*([rest] if takes_arguments else []))
        except ConfigError as error:
            _fail(str(error), _EXIT_USAGE)
        except UserError as error:
            _fail(str(error), 1)
        except OSError as error:
            _fail(_describe_os_error(error), 1)
        except (RuntimeError, ValueError) as error:  # which JAX's errors are
            from mnist_jax.devices import failures  # imported late: needs JAX

            if not (message := failures.explain(error, has_config=takes_config)):
                raise
            _fail(message, 1)
        except Terminated:
            _fail(f"\nStopped by SIGTERM.{resume()}", 128 + signal.SIGTERM, label="")
        except KeyboardInterrupt:
            _fail(f"\nStopped.{resume()}", 128 + signal.SIGINT, label="")
        return 0

    # absl takes the text of --helpshort from the main module.
    known = describe_configs() if takes_config else ""
    sys.modules["__main__"].__doc__ = (usage + known).replace("%", "%%")
    app.run(guarded, flags_parser=functools.partial(_parse, takes_config=takes_config))
    raise AssertionError("app.run does not return")


def describe_configs() -> str:
    """List the project's experiments with the first lines of their docstrings."""
    lines = []
    for path in config_flag.files():
        docstring = ast.get_docstring(ast.parse(path.read_text())) or ""
        lines.append(f"  configs/{path.name:16s} {docstring.splitlines()[0]}")
    return "\n".join(lines)


def command_with(**overrides: str | None) -> str:
    """Return this process's command line with other values of some flags.

    Args:
        **overrides: the flags by name; None leaves a flag out.
    """
    return shlex.join([*_program(), *arguments_with(**overrides)])


def arguments_with(**overrides: str | None) -> list[str]:
    """Return this process's arguments, changed as in `command_with`."""
    arguments = []
    skip = False
    for argument in sys.argv[1:]:
        name, has_value, _ = argument.lstrip("-").partition("=")
        if skip:
            skip = False
        elif argument.startswith("-") and name in overrides:
            skip = not has_value
        else:
            arguments.append(argument)
    return arguments + [
        f"--{name}={value}" for name, value in overrides.items() if value is not None
    ]


def _program() -> list[str]:
    """Return what the user typed before the arguments."""
    path = Path(sys.argv[0])
    if path.name == "__main__.py":
        return ["python", "-m", path.parent.name]
    return ["mnist-jax"] if path.stem == "mnist-jax" else ["python", sys.argv[0]]


def _parse(arguments: list[str], *, takes_config: bool) -> list[str]:
    """Parse the flags, or print the error and end the process."""
    try:
        rest = flags.FLAGS(arguments)
        if takes_config and not flags.FLAGS["config"].present:
            raise ConfigError(_NO_CONFIG + config_flag.known_files())
        return rest
    except UserError as error:
        message = str(error)
    except flags.UnrecognizedFlagError as error:
        lacks_config = takes_config and not flags.FLAGS["config"].present
        if lacks_config and error.flagname.startswith("config."):
            message = _NO_CONFIG + config_flag.known_files()
        else:
            hint = config_flag.suggestion(error.flagname) if takes_config else ""
            unknown = f"Unknown command line flag {error.flagname!r}{hint}"
            message = _with_help(unknown if hint else _one_line(error))
    except flags.Error as error:
        message = _with_help(_one_line(error))
    except (OSError, TypeError, ValueError) as error:
        message = _one_line(error)
    _fail(message, _EXIT_USAGE)


def _one_line(error: BaseException) -> str:
    """Return an error's message without line breaks and tracebacks."""
    while error.args and isinstance(error.args[0], BaseException):
        error = error.args[0]
    text = str(error.args[0]) if error.args else type(error).__name__
    lines = [line.strip().rstrip(".:") for line in text.splitlines() if line.strip()]
    if any(line.startswith("Traceback") for line in lines):
        lines = [lines[0], lines[-1]]
    return ". ".join(lines)


def _with_help(message: str) -> str:
    end = "" if message.endswith("?") else "."
    return f"{message}{end} --helpshort lists the flags."


def _describe_os_error(error: OSError) -> str:
    where = f"{error.filename}: " if error.filename else ""
    message = f"{where}{error.strerror or error}."
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        message += " Make room, then repeat the command."
    elif error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        message += " Choose a place that you may write to."
    return message


def _on_terminate(signal_number: int, frame: object) -> NoReturn:
    raise Terminated


def _fail(message: str, code: int, *, label: str = "Error: ") -> NoReturn:
    print(f"{label}{message}", file=sys.stderr, flush=True)
    # After a failed save, orbax's threads would bury the message in tracebacks.
    sys.excepthook = sys.unraisablehook = lambda *_: None
    logging.set_verbosity(logging.FATAL)
    sys.exit(code)
