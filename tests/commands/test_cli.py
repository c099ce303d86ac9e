"""Pieces of the front door that need no process of their own."""

import errno
import sys

import pytest

from mnist_jax.commands import cli


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        (["run.py"], "python run.py --workdir=w"),
        (["run.py", "--workdir=old", "--config=c"], "python run.py --config=c"),
        (["run.py", "--workdir", "old", "--config=c"], "python run.py --config=c"),
        (["run.py", "-workdir=old"], "python run.py"),
        (["run.py", "--config.phases[0].epochs=5"], "'--config.phases[0].epochs=5'"),
    ],
)
def test_the_command_to_go_on_names_the_folder_once(monkeypatch, typed, expected):
    monkeypatch.setattr(sys, "argv", typed)
    command = cli.command_with(workdir="w")
    assert expected in command
    assert command.endswith("--workdir=w")
    assert command.count("workdir") == 1 and "old" not in command


@pytest.mark.parametrize(
    ("number", "advice"),
    [
        (errno.ENOSPC, "Make room"),
        (errno.EACCES, "may write to"),
        (errno.EROFS, "may write to"),
        (errno.EIO, "error"),
    ],
)
def test_errors_of_the_system_name_the_file_and_a_way_out(number, advice):
    error = OSError(number, "some error", "/the/file")
    message = cli._describe_os_error(error)
    assert message.startswith("/the/file: some error.") and advice in message


def test_every_config_says_in_its_first_line_what_it_is():
    for line in cli.describe_configs().splitlines():
        path, _, text = line.strip().partition(" ")
        assert path.startswith("configs/") and text.strip().endswith(".")
