"""Writing files completely or not at all, even if killed or if the disk is full."""

import contextlib
import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

_SUFFIX = ".tmp"  # until a file is renamed


@contextlib.contextmanager
def atomic_writer(path: Path) -> Iterator[BinaryIO]:
    """Open a temporary file that is renamed to `path` at the end.

    If the block raises an error, the file at `path` remains as it was. The file that a
    link leads to is replaced, not the link; pipes and devices are written to directly.

    Raises:
        OSError: the folder cannot be written to, or the disk is full.
    """
    path = path.resolve()
    if path.exists() and not path.is_file():
        with path.open("wb") as file:
            yield file
        return
    descriptor, temporary = tempfile.mkstemp(
        dir=path.parent, prefix=f".{path.name}.", suffix=_SUFFIX
    )
    try:
        with os.fdopen(descriptor, "wb") as file:
            yield file
        # mkstemp creates files that only their owner may read.
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(temporary, 0o666 & ~umask)
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
        raise


def remove_leftovers(folder: Path) -> None:
    """Remove files of killed processes; nobody else may be writing to the folder."""
    for path in folder.glob(f".*{_SUFFIX}"):
        path.unlink()


def write_text(path: Path, text: str) -> None:
    """Write `text` to `path`, completely or not at all."""
    with atomic_writer(path) as file:
        file.write(text.encode())


def write_json(path: Path, value: Any) -> None:
    """Write `value` to `path` as indented JSON, completely or not at all."""
    write_text(path, json.dumps(value, indent=2, allow_nan=False) + "\n")


def check_unpacked(size: int, packed: int) -> None:
    """Raise ValueError if a file of `packed` bytes announces too many numbers.

    Images and weights are compressed to a fifth at best. A small file that announces
    gigabytes would only fill the memory.
    """
    if size > max(100 * packed, 2**26):
        raise ValueError(f"it announces {size:,} bytes in a file of {packed:,}")


def cache_folder() -> Path:
    """Return `mnist_jax` in `$XDG_CACHE_HOME`, or in `~/.cache` if that is not set."""
    cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return expand(cache) / "mnist_jax"


def expand(path: str | os.PathLike[str]) -> Path:
    """Return a path with the home folder for `~`, if there is one."""
    return Path(os.path.expanduser(path))


def shown(path: Path) -> Path:
    """Return a path as messages name it: relative to the current folder if below it."""
    here = Path.cwd()
    return path.relative_to(here) if path.is_relative_to(here) else path
