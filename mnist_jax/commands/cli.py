"""What all commands share: parsing flags, and errors without tracebacks."""

import contextlib
import inspect
import os
import re
import shlex
import signal
import sys
from collections.abc import Sequence
from types import ModuleType
from typing import NoReturn

from absl import app, flags, logging
from rich.console import Console

from mnist_jax import console
from mnist_jax.commands import config_flag
from mnist_jax.config import ConfigError
from mnist_jax.errors import UserError

_EXIT_USAGE = 2
_HELP = frozenset(("-h", "-help", "--help", "--helpshort"))
# The words differ: "Out of memory allocating 8 bytes" on a CPU, "Failed to allocate
# request" on a GPU, "Ran out of memory in memory space hbm" on a TPU.
_OUT_OF_MEMORY = re.compile(
    "RESOURCE_EXHAUSTED: .*(memory|allocat|hbm)|Ran out of memory", re.IGNORECASE
)


class Terminated(KeyboardInterrupt):
    """SIGTERM, which clusters send some time before SIGKILL."""


def run(command: ModuleType, *, verb: str = "") -> NoReturn:
    """Parse the flags, call the command's `main`, and end the process.

    The exit status is 0, 1 for an error, 2 for bad flags, or 128 plus the signal's
    number after ctrl-C and SIGTERM, as in shells.

    Args:
        command: a module of this package. Its `main` gets the positional arguments if
            it takes any.
        verb: the verb, if the first argument names one.
    """
    _forget_flags()
    takes_arguments = bool(inspect.signature(command.main).parameters)
    if takes_arguments and "run" not in flags.FLAGS:
        text = "A run, as without --run=; can be repeated."
        flags.DEFINE_multi_string("run", [], text, module_name=command.__name__)

    def guarded(arguments: Sequence[str]) -> int:
        rest = list(arguments[2 if verb else 1 :])
        if takes_arguments and isinstance(flags.FLAGS.run, list):
            rest += flags.FLAGS.run
        if rest and not takes_arguments:
            message = f"Unexpected argument {rest[0]!r}: flags are --name=value."
            _fail(message, _EXIT_USAGE)
        console.start()
        # Pictures go to files alone, so that it need not be a backend.
        os.environ.pop("MPLBACKEND", None)
        if not flags.FLAGS["verbosity"].present:
            # orbax logs every save and deletion at level INFO.
            logging.set_verbosity(logging.WARNING)
        signal.signal(signal.SIGTERM, _on_terminate)
        if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
            signal.signal(signal.SIGINT, signal.default_int_handler)
        try:
            command.main(*([rest] if takes_arguments else []))
            sys.stdout.flush()
        except ConfigError as error:
            _fail(str(error), _EXIT_USAGE)
        except UserError as error:
            _fail(str(error), 1)
        except BrokenPipeError:  # the reader of the output, such as `head`, has ended
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            sys.exit(128 + 13)  # SIGPIPE, which some systems lack
        except OSError as error:
            where = f"{error.filename}: " if error.filename else ""
            _fail(f"{where}{error.strerror or error}.", 1)
        except (RuntimeError, ValueError) as error:  # which JAX's errors are
            if not _OUT_OF_MEMORY.search(str(error)):
                raise
            _fail(_explain(error), 1)
        except Terminated:
            _fail(f"\nStopped by SIGTERM.{_resume()}", 128 + signal.SIGTERM, label="")
        except KeyboardInterrupt:
            _fail(f"\nStopped.{_resume()}", 128 + signal.SIGINT, label="")
        return 0

    short = _HELP.intersection(sys.argv[1:])
    if short or "--helpfull" in sys.argv[1:]:
        about = command.__doc__ or ""
        about += flags.FLAGS.module_help(command) if short else flags.FLAGS.get_help()
        with contextlib.suppress(BrokenPipeError):  # of `head`, for example
            print(about, "\n--helpfull describes the flags of JAX too.", sep="\n")
        sys.exit()
    app.run(guarded, flags_parser=_parse)
    raise AssertionError("app.run does not return")


def _forget_flags() -> None:
    """Forget the flags of an earlier command in this process, as %run leaves them."""
    if flags.FLAGS.is_parsed():
        for name in [name for name in flags.FLAGS if name.startswith("config.")]:
            delattr(flags.FLAGS, name)
        flags.FLAGS.unparse_flags()


def _takes_config() -> bool:
    return "config" in flags.FLAGS


def _explain(error: BaseException) -> str:
    """Return what to do if the device ran out of memory."""
    way_out = "end other processes that use it, or use the CPU with JAX_PLATFORMS=cpu"
    if _takes_config():
        way_out += (
            ", or lower --config.phases[i].batch_size (for training) or "
            "--config.eval_batch_size (for evaluation) and give a new --workdir"
        )
    reason = str(error).strip().splitlines()[0]
    return f"The device ran out of memory: {way_out}.\nJAX said: {reason}"


def _resume() -> str:
    """Return how to resume the command, if it has a folder to resume in."""
    if "workdir" not in flags.FLAGS or not flags.FLAGS.workdir:
        return ""
    from mnist_jax.runs import environment

    command = environment.typed_command()
    if not flags.FLAGS["workdir"].present:
        command += f" --workdir={shlex.quote(flags.FLAGS.workdir)}"
    return f" To resume: {command}"


def _parse(arguments: list[str]) -> list[str]:
    """Parse the flags, or print the error and end the process."""
    try:
        rest = flags.FLAGS(arguments)
        if _takes_config() and not flags.FLAGS["config"].present:
            raise ConfigError(f"--config is missing. {config_flag.known()}")
        return rest
    except UserError as error:
        message = str(error)
    except flags.UnrecognizedFlagError as error:
        message = f"Unknown flag --{error.flagname}. --help lists the flags."
        if _takes_config():
            message += " Fields are --config.FIELD: mnist-jax fields lists them."
    except RecursionError:  # of absl's search for a flag with a similar name
        message = "An argument is longer than any flag. --help lists the flags."
    except (AttributeError, KeyError) as error:  # ml_collections suggests a name
        message = f"No such field: {config_flag.one_line(error)}"
    except (flags.Error, IndexError, OSError, TypeError, ValueError) as error:
        message = f"{config_flag.one_line(error)}. --help lists the flags."
    _fail(message, _EXIT_USAGE)


def _on_terminate(signal_number: int, frame: object) -> NoReturn:
    raise Terminated


def _fail(message: str, code: int, *, label: str = "Error: ") -> NoReturn:
    text = console.fit(f"{label}{console.printable(message)}", Console(stderr=True))
    print(text, file=sys.stderr, flush=True)
    # After a failed save, orbax's threads would bury the message in tracebacks.
    sys.excepthook = sys.unraisablehook = lambda *_: None
    logging.set_verbosity(logging.FATAL)
    sys.exit(code)
