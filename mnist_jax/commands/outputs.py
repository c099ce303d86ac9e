"""Files that commands write: never over an input, nor over somebody else's file."""

import contextlib
import datetime
import itertools
from collections.abc import Iterable
from pathlib import Path

from mnist_jax.errors import UserError


def check(path: Path, *, flag: str, mark: bytes, inputs: Iterable[Path] = ()) -> None:
    """Check that a file may be written, before any work is done.

    An existing file is replaced only if it has the mark of a file of ours, so that a
    command can be repeated. Pipes and devices are always written to.

    Args:
        path: the file.
        flag: the flag that names it, with its value, for messages.
        mark: bytes that are in every file that the command writes there.
        inputs: the files that the command reads; links to them count too.

    Raises:
        UserError: there is no such folder, or the file must not be replaced.
    """
    if not path.parent.is_dir():
        raise UserError(f"{flag}: there is no folder {path.parent}.")
    if not path.exists():
        return
    if any(file.exists() and path.samefile(file) for file in inputs):
        raise UserError(
            f"{flag}: {path} is also read by this command. Choose another name."
        )
    if path.is_file():
        is_ours = not path.stat().st_size or mark in path.read_bytes()
    else:
        is_ours = not path.is_dir()
    if not is_ours:
        raise UserError(
            f"{flag}: {path} exists, and this command did not write it. Choose another "
            "name, or move the file away."
        )


def check_folder(path: Path, *, flag: str, sign: str) -> None:
    """Check that a command may write to a folder, which need not exist.

    Args:
        path: the folder.
        flag: the flag that names it, for messages.
        sign: a file that is in every folder which the command has written to.

    Raises:
        UserError: it is a file or below one, or holds files that the command did not
            write.
    """
    for parent in (path, *path.parents):
        if parent.exists() and not parent.is_dir():
            raise UserError(f"{flag}={path}: {parent} is not a folder.")
    if path.is_dir() and any(path.iterdir()) and not (path / sign).exists():
        raise UserError(
            f"{flag}={path} holds other files, which might be overwritten. Name a new "
            f"or empty folder, or one with an earlier {sign}."
        )


def new_folder(parent: Path) -> Path:
    """Create a folder that is named by the time, with a number if that exists."""
    now = datetime.datetime.now().strftime("%Y-%m-%d_%H-%M-%S")
    parent.mkdir(parents=True, exist_ok=True)
    for attempt in itertools.count(1):
        folder = parent / (now if attempt == 1 else f"{now}-{attempt}")
        # Another run may have started in the same second.
        with contextlib.suppress(FileExistsError):
            folder.mkdir()
            return folder
    raise AssertionError("there is always another number")
