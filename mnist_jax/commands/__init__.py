"""The commands, one verb per file: `mnist-jax VERB`, `python -m mnist_jax VERB`."""

import ast
import os
import signal
from pathlib import Path


def exit_on_interrupt() -> None:
    """Make ctrl-C end the process without a traceback during the slow imports."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _exit)


def first_line(path: Path) -> str:
    """Return the first line of the docstring of a Python file."""
    about = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    return about.partition("\n")[0]


def _exit(number: int, frame: object) -> None:
    os.write(2, b"\nStopped.\n")
    os._exit(128 + number)  # since an import could catch SystemExit
