"""Writing files so that a kill or a full disk never leaves half of one."""

import contextlib
import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

# Of what is being written and not yet renamed.
_SUFFIX = ".tmp"


@contextlib.contextmanager
def atomic_writer(path: Path) -> Iterator[BinaryIO]:
    """Open a file to be written beside `path` and renamed to it at the end.

    If anything goes wrong in between, what stood at `path` stays, and nothing else
    does.

    Raises:
        OSError: the folder cannot be written to, or the disk is full.
    """
    descriptor, beside = tempfile.mkstemp(
        dir=path.parent, prefix=f".{path.name}.", suffix=_SUFFIX
    )
    try:
        with os.fdopen(descriptor, "wb") as file:
            yield file
        # mkstemp makes files that only their owner may read.
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(beside, 0o666 & ~umask)
        os.replace(beside, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(beside)
        raise


def remove_leftovers(folder: Path) -> None:
    """Remove what `atomic_writer` could not, since its process was killed.

    Only for a folder in which nobody else is writing.
    """
    for path in folder.glob(f".*{_SUFFIX}"):
        path.unlink()


def write_text(path: Path, text: str) -> None:
    """Write `text` to `path`, whole or not at all."""
    with atomic_writer(path) as file:
        file.write(text.encode())


def write_json(path: Path, value: Any) -> None:
    """Write `value` to `path` as indented JSON, whole or not at all."""
    write_text(path, json.dumps(value, indent=2, allow_nan=False) + "\n")


def cache_folder() -> Path:
    """Return where this package keeps what can be had again.

    That is `mnist_jax` in `$XDG_CACHE_HOME`, else in `~/.cache`.
    """
    cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(cache).expanduser() / "mnist_jax"
