"""What is printed where, and what log.txt keeps."""

import io
import re
from pathlib import Path

import pytest
from rich.console import Console

from mnist_jax import console
from mnist_jax.errors import UserError
from mnist_jax.report.render import Table


@pytest.fixture
def pipe():
    return Console(file=io.StringIO(), force_terminal=False, width=100)


@pytest.fixture(autouse=True)
def tidy(monkeypatch):
    monkeypatch.setattr(console.LOGGER, "handlers", [])


def written(to: Console) -> str:
    assert isinstance(to.file, io.StringIO)
    return to.file.getvalue()


def test_lines_are_printed_as_they_are(pipe):
    """Brackets are no markup, and long lines are not broken."""
    console.start(pipe)
    console.start(pipe)  # prints nothing twice
    line = "epoch [1] --config.phases[0].epochs=5 " + "x" * 200
    console.LOGGER.info(line)
    assert written(pipe) == line + "\n"


def test_a_name_cannot_command_the_terminal(pipe):
    console.start(pipe)
    console.LOGGER.info("\x1b[31m\x9b31m\r%s", "two\nlines")
    assert written(pipe) == "\\x1b[31m\\x9b31m\\rtwo\nlines\n"
    Table(["x"], [["\x1b[31m"]], ["left"]).show(pipe)
    assert "\x1b" not in written(pipe)


def test_the_file_keeps_the_time_and_why_a_run_ended(pipe, tmp_path):
    console.start(pipe)
    with pytest.raises(UserError), console.log_to(tmp_path / "log.txt"):
        console.LOGGER.info("hello")
        raise UserError("no more")
    console.LOGGER.info("after")
    first, second = (tmp_path / "log.txt").read_text().splitlines()
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d INFO hello", first)
    assert second.endswith("ERROR Ended by UserError('no more')")
    assert "no more" not in written(pipe)  # whoever catches it prints it


def test_a_file_that_cannot_be_written_is_an_error(pipe):
    console.start(pipe)
    with pytest.raises(OSError, match="No space left"):
        with console.log_to(Path("/dev/full")):
            console.LOGGER.info("x" * 100_000)
