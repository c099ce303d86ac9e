"""What a person sees while a command runs, and what log.txt keeps of it.

Every line goes through the logger `mnist_jax`: to the terminal as it is, to log.txt
with the time before it. On a terminal a bar below the lines shows the epoch, the loss
and the time left; elsewhere there are only the lines, one an epoch.
"""

import contextlib
import contextvars
import logging
from collections.abc import Iterator
from pathlib import Path

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
)

LOGGER = logging.getLogger("mnist_jax")
# The log that lines are for, and what the terminal has before them.
_about = contextvars.ContextVar[tuple[Path | None, str]]("about", default=(None, ""))


class _ConsoleHandler(logging.Handler):
    """Prints through rich, so that lines appear above a bar instead of through it."""

    def __init__(self, console: Console):
        super().__init__()
        self.console = console

    def emit(self, record: logging.LogRecord) -> None:
        style = "yellow" if record.levelno >= logging.WARNING else None
        self.console.print(
            _about.get()[1] + self.format(record),
            style=style,
            markup=False,
            highlight=False,
            soft_wrap=True,
        )


class _FileHandler(logging.FileHandler):
    """Raises what keeps it from writing, a full disk for example."""

    def handleError(self, record: logging.LogRecord) -> None:
        raise  # the exception that `emit` is handling


def start(console: Console | None = None) -> Console:
    """Send the lines of this package to `console` (standard output)."""
    console = console or Console()
    for handler in list(LOGGER.handlers):
        LOGGER.removeHandler(handler)
    LOGGER.addHandler(_ConsoleHandler(console))
    LOGGER.setLevel(logging.INFO)
    LOGGER.propagate = False
    return console


def be_quiet() -> None:
    """Send warnings alone: another process says the rest."""
    LOGGER.setLevel(logging.WARNING)


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
    """Append the lines of this package to a file too, each with its time.

    If the block ends with an exception, the file says so.

    Raises:
        OSError: the file cannot be written.
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
        # To the file alone: the terminal is told by whoever catches it.
        with contextlib.suppress(OSError):
            handler.handle(
                logging.LogRecord(
                    LOGGER.name,
                    logging.ERROR,
                    __file__,
                    0,
                    "Ended by %r",
                    (error,),
                    None,
                )
            )
        raise
    finally:
        LOGGER.removeHandler(handler)
        handler.close()


class TrainingProgress:
    """The bar below the lines: a `training.loop.Listener`.

    Args:
        console: where to; a bar appears only if it is a terminal.
        epochs: of the whole run, through all phases.
        done: epochs that a run which is resumed has behind it.
    """

    def __init__(self, console: Console, *, epochs: int, done: int = 0):
        self._epochs, self._done = epochs, done
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=None),
            MofNCompleteColumn(),
            TextColumn("loss {task.fields[loss]}"),
            TextColumn("left"),
            # The pace of the last minute: an epoch may be slower than its steps.
            TimeRemainingColumn(elapsed_when_finished=True),
            console=console,
            disable=not console.is_terminal,
            transient=True,
            speed_estimate_period=60,
        )
        self._task = self._bar.add_task("starting", total=None, loss="-")

    def __enter__(self) -> "TrainingProgress":
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def compiling(self) -> None:
        """Say that compilation begins."""
        LOGGER.info("Compiling the training step ...")
        self._bar.update(self._task, description="compiling", refresh=True)

    def compiled(self, seconds: float) -> None:
        """Say that compilation is over."""
        LOGGER.info("Compiled in %.1f s.", seconds)

    def skip(self, epochs: int) -> None:
        """Expect so many epochs less: a phase ended early."""
        self._epochs -= epochs

    def steps_done(self, epoch: int, step: int, steps: int, loss: float) -> None:
        """Move the bar: `step` of the `steps` of `epoch` (from 1) are done."""
        self._bar.update(
            self._task,
            description=f"epoch {epoch}/{self._epochs}",
            total=steps * (self._epochs - self._done),
            completed=steps * (epoch - 1 - self._done) + step,
            loss=f"{loss:.4f}",
        )
