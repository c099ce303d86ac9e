"""What every command shares: flags, and errors said in one line."""

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

    Its exit status is 0, 1 for an error, 2 for bad flags, and what shells give to a
    process that a signal ended, 128 and the signal's number, after ctrl-C and SIGTERM.

    Args:
        main: called with nothing, or with the list of arguments that are no flags if
            `takes_arguments`; may raise UserError, whose message is printed without a
            traceback.
        usage: what --helpshort prints above the flags.
        verb: the first argument, if it has already been taken as the name of a verb.
        takes_config: whether the command has the flag --config.
        takes_arguments: whether there may be arguments that are no flags, such as
            folders.
        how_to_resume: the command that goes on after an interruption, if there is one.
    """

    def resume() -> str:
        return f" To go on: {how_to_resume()}" if how_to_resume else ""

    def guarded(arguments: Sequence[str]) -> int:
        rest = list(arguments[2 if verb else 1 :])
        if rest and not takes_arguments:
            _fail(
                f"Unexpected argument {rest[0]!r}: flags are --name=value.",
                _EXIT_USAGE,
            )
        console.start()
        if not flags.FLAGS["verbosity"].present:
            # orbax tells every save and deletion at level INFO.
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

    # Where absl looks for it.
    known = describe_configs() if takes_config else ""
    sys.modules["__main__"].__doc__ = (usage + known).replace("%", "%%")
    app.run(guarded, flags_parser=functools.partial(_parse, takes_config=takes_config))
    raise AssertionError("app.run does not return")


def define_keep_memory() -> None:
    """Define --keep_memory, which `devices.memory` reads before all others."""
    flags.DEFINE_bool(
        "keep_memory",
        True,
        "Keep freed memory in the process, which is faster (on Linux with glibc).",
    )


def describe_configs() -> str:
    """List the project's experiments, each with the first line of its docstring."""
    lines = []
    for path in config_flag.files():
        docstring = ast.get_docstring(ast.parse(path.read_text())) or ""
        lines.append(f"  configs/{path.name:16s} {docstring.splitlines()[0]}")
    return "\n".join(lines)


def command_with(**overrides: str | None) -> str:
    """Return this process's command line with some flags set: `--name=value`.

    Args:
        overrides: the flags by name; one that is None is left out.
    """
    return shlex.join([*_program(), *arguments_with(**overrides)])


def arguments_with(**overrides: str | None) -> list[str]:
    """Return this process's arguments with some flags set: see `command_with`."""
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
    """Return what a user types before the arguments."""
    path = Path(sys.argv[0])
    if path.name == "__main__.py":
        return ["python", "-m", path.parent.name]
    return ["mnist-jax"] if path.stem == "mnist-jax" else ["python", sys.argv[0]]


def _parse(arguments: list[str], *, takes_config: bool) -> list[str]:
    """Parse the flags; on an error, print it and end the process."""
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
            message = f"{_one_line(error)}{hint} (--helpshort lists the flags.)"
    except flags.Error as error:
        message = f"{_one_line(error)} (--helpshort lists the flags.)"
    except (OSError, TypeError, ValueError) as error:
        message = _one_line(error)
    _fail(message, _EXIT_USAGE)


def _one_line(error: BaseException) -> str:
    """Return an error's message with its line breaks and tracebacks taken out."""
    while error.args and isinstance(error.args[0], BaseException):
        error = error.args[0]
    text = str(error.args[0]) if error.args else type(error).__name__
    lines = [line.strip().rstrip(".:") for line in text.splitlines() if line.strip()]
    if any(line.startswith("Traceback") for line in lines):
        lines = [lines[0], lines[-1]]
    return ". ".join(lines)


def _describe_os_error(error: OSError) -> str:
    where = f"{error.filename}: " if error.filename else ""
    message = f"{where}{error.strerror or error}."
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        message += " Make room, then give the same command again."
    elif error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        message += " Choose a place that you may write to."
    return message


def _on_terminate(signal_number: int, frame: object) -> NoReturn:
    raise Terminated


def _fail(message: str, code: int, *, label: str = "Error: ") -> NoReturn:
    print(f"{label}{message}", file=sys.stderr, flush=True)
    # After a failed save, threads of orbax end with tracebacks of their own, which
    # would bury the message.
    sys.excepthook = sys.unraisablehook = lambda *_: None
    logging.set_verbosity(logging.FATAL)
    sys.exit(code)
