"""Output to the terminal and to log.txt, and the progress bar.

Every line goes through the logger `mnist_jax`: unchanged to the terminal, with the time
to log.txt. On a terminal, a bar below the lines shows the epoch, the loss and the time
left.
"""

import contextlib
import contextvars
import logging
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from mnist_jax.errors import CONTROL

LOGGER = logging.getLogger("mnist_jax")
# The log that lines are for, and what the terminal has before them.
_about = contextvars.ContextVar[tuple[Path | None, str]]("about", default=(None, ""))


def printable(text: str) -> str:
    """Return a text with escaped control characters, apart from breaks and tabs."""
    return CONTROL.sub(lambda found: ascii(found[0])[1:-1], text)


class _Output(Console):
    """Standard output."""

    def on_broken_pipe(self) -> None:
        raise  # instead of ending the process


def output() -> Console:
    """Return a console on standard output, as wide as any line if no terminal."""
    found = _Output()
    return found if found.is_terminal else _Output(width=10_000)


def fit(text: str, console: Console, *, indent: int = 0) -> str:
    """Return a text whose lines are broken between words if a terminal needs it.

    Args:
        text: one or several lines.
        console: on a file, nothing is broken.
        indent: the spaces before the rest of a broken line.
    """
    if not console.is_terminal:
        return text
    # Words such as paths may be wider than the terminal.
    form: Any = {"break_long_words": False, "break_on_hyphens": False}
    form["subsequent_indent"] = " " * indent
    return "\n".join(
        textwrap.fill(line, console.width, **form)
        if len(line) > console.width
        else line
        for line in text.split("\n")
    )


class _ConsoleHandler(logging.Handler):
    """Prints through rich, which puts lines above the bar."""

    def __init__(self, console: Console):
        super().__init__()
        self.console = console

    def emit(self, record: logging.LogRecord) -> None:
        style = "yellow" if record.levelno >= logging.WARNING else ""
        text = printable(_about.get()[1] + self.format(record))
        self.console.print(Text(fit(text, self.console), style), soft_wrap=True)


class _FileHandler(logging.FileHandler):
    """Raises errors in writing, for example on a full disk."""

    def handleError(self, record: logging.LogRecord) -> None:
        raise  # the exception that `emit` caught


def start(console: Console | None = None) -> Console:
    """Print the log lines of this package on `console`, or on standard output."""
    console = console or output()
    for handler in list(LOGGER.handlers):
        if isinstance(handler, _ConsoleHandler):  # others are the caller's
            LOGGER.removeHandler(handler)
    LOGGER.addHandler(_ConsoleHandler(console))
    LOGGER.setLevel(logging.INFO)
    LOGGER.propagate = False
    return console


@contextlib.contextmanager
def about(log: Path, prefix: str) -> Iterator[None]:
    """Keep the lines of a block out of all log files but one.

    Args:
        log: the file, as `log_to` was given it.
        prefix: put before the lines on the terminal.
    """
    token = _about.set((log, prefix))
    try:
        yield
    finally:
        _about.reset(token)


@contextlib.contextmanager
def log_to(path: Path) -> Iterator[None]:
    """Also append the log lines of this package to a file, with their times.

    An exception that ends the block is logged to the file. Raises OSError if the file
    cannot be written.
    """
    handler = _FileHandler(path, encoding="utf-8")
    handler.addFilter(lambda record: _about.get()[0] in (None, path))
    handler.setFormatter(
        logging.Formatter("%(asctime)s %(levelname)s %(message)s", "%Y-%m-%d %H:%M:%S")
    )
    LOGGER.addHandler(handler)
    try:
        yield
    except BaseException as error:
        # Not to the terminal: the caller prints the error.
        fields = {"levelname": "ERROR", "msg": f"Ended by {error!r}"}
        with contextlib.suppress(OSError):
            handler.handle(logging.makeLogRecord(fields))
        raise
    finally:
        LOGGER.removeHandler(handler)
        handler.close()


class TrainingProgress:
    """The progress bar.

    Args:
        console: shows the bar only if it is a terminal.
        epochs: of the whole run, over all phases.
        done: epochs before the run was resumed.
    """

    def __init__(self, console: Console, *, epochs: int, done: int = 0):
        self._epochs, self._done = epochs, done
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=None),
            MofNCompleteColumn(),
            TextColumn("loss {task.fields[loss]}"),
            TextColumn("left"),
            TimeRemainingColumn(elapsed_when_finished=True),
            console=console,
            disable=not console.is_terminal,
            transient=True,
            speed_estimate_period=60,  # seconds; includes validation
        )
        self._task = self._bar.add_task("starting", total=None, loss="-")

    def __enter__(self) -> "TrainingProgress":
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def compiling(self) -> None:
        """Show that compilation begins."""
        LOGGER.info("Compiling the training step ...")
        self._bar.update(self._task, description="compiling", refresh=True)

    def compiled(self, seconds: float) -> None:
        """Log the compilation time."""
        LOGGER.info("Compiled in %.1f s.", seconds)

    def skip(self, epochs: int) -> None:
        """Expect fewer epochs, since a phase ended early."""
        self._epochs -= epochs

    def steps_done(self, epoch: int, step: int, steps: int, loss: float) -> None:
        """Move the bar to `step` of the `steps` in `epoch` (from 1)."""
        self._bar.update(
            self._task,
            description=f"epoch {epoch}/{self._epochs}",
            total=steps * (self._epochs - self._done),
            completed=steps * (epoch - 1 - self._done) + step,
            loss=f"{loss:.4f}",
        )
