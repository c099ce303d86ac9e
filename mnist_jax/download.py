"""Downloads of files whose size and checksum are known, from one of several mirrors."""

import contextlib
import hashlib
import logging
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

import requests

from mnist_jax.errors import UserError
from mnist_jax.files import atomic_writer

LOGGER = logging.getLogger(__name__)

# Seconds to wait for a connection, and for the next bytes once it stands.
TIMEOUT = (10.0, 30.0)
_CHUNK_BYTES = 1 << 16


class MirrorsFailed(Exception):
    """No mirror delivered the file; the message has one line for each."""


class CannotWrite(UserError):
    """The file cannot be written where it is to lie."""


class _MirrorError(Exception):
    """What one mirror did wrong."""


def fetch(
    urls: Sequence[str],
    destination: Path,
    *,
    size: int,
    checksum: str,
    way_out: str,
    timeout: tuple[float, float] = TIMEOUT,
) -> None:
    """Download a file from the first of several mirrors that delivers it.

    The file appears under its name only when it is whole and has the right checksum;
    until then it is written beside, under a name of its own. So an interrupted download
    leaves nothing behind, and two processes may fetch the same file at once.

    Args:
        urls: where the file is to be had, tried in turn.
        destination: path of the file. Its folder is created if need be.
        size: bytes that the file has.
        checksum: of the file: an algorithm of `hashlib`, a colon, and hex digits.
        way_out: where else the file could lie, for the message if it cannot be written.
        timeout: seconds to wait for a connection, and for the next bytes.

    Raises:
        MirrorsFailed: no mirror delivered this very file.
        CannotWrite: the file cannot be written.
    """
    failures = []
    existed = destination.parent.exists()
    for url in urls:
        try:
            destination.parent.mkdir(parents=True, exist_ok=True)
            with atomic_writer(destination) as file:
                _receive(url, file, size=size, checksum=checksum, timeout=timeout)
        except _MirrorError as error:
            LOGGER.warning("%s: %s", url, error)
            failures.append(f"{url}: {error}")
        except OSError as error:
            # The disk's fault, so no reason to ask another mirror. Errors of the
            # network do not come here: `_body` turns them into `_MirrorError`.
            raise CannotWrite(
                f"{destination} cannot be written: {error.strerror or error}. Make "
                f"room or give yourself the right to write there, or {way_out}."
            ) from error
        else:
            return
    if not existed:
        with contextlib.suppress(OSError):  # Unless somebody put something there.
            destination.parent.rmdir()
    raise MirrorsFailed("\n".join(failures) or "there is no mirror to ask")


def _receive(
    url: str, file: BinaryIO, *, size: int, checksum: str, timeout: tuple[float, float]
) -> None:
    """Write what one mirror sends, and check it."""
    algorithm, _, expected = checksum.partition(":")
    digest = hashlib.new(algorithm)
    received = 0
    with _progress(url, size) as advance:
        for chunk in _body(url, timeout):
            received += len(chunk)
            if received > size:  # Stop here: it may be anything, of any length.
                raise _MirrorError(f"sends more than the {size:,} bytes of the file")
            file.write(chunk)
            digest.update(chunk)
            advance(len(chunk))
    if received < size:
        raise _MirrorError(f"sends {received:,} bytes, where the file has {size:,}")
    if digest.hexdigest() != expected:
        raise _MirrorError(
            f"sends another file: its {algorithm} is {digest.hexdigest()}, not "
            f"{expected}"
        )


def _body(url: str, timeout: tuple[float, float]) -> Iterator[bytes]:
    """Yield what a mirror sends, and blame it for whatever goes wrong with that."""
    # Not to be packed for the way: the checksum is of the file as it is stored.
    headers = {"Accept-Encoding": "identity"}
    try:
        with requests.get(
            url, stream=True, timeout=timeout, headers=headers
        ) as response:
            if response.status_code != requests.codes.ok:
                raise _MirrorError(
                    f"answers {response.status_code} {response.reason}".rstrip()
                )
            yield from response.iter_content(_CHUNK_BYTES)
    # The errors of requests are OSErrors, and it lets a few plain ones through.
    except OSError as error:
        raise _MirrorError(_reason(error)) from error


def _reason(error: BaseException) -> str:
    """Return what lies at the bottom of the stack of errors that requests builds."""
    while cause := error.__cause__ or error.__context__:
        error = cause
    if isinstance(error, TimeoutError):
        return "sends nothing (timed out)"
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


@contextlib.contextmanager
def _progress(url: str, size: int) -> Iterator[Callable[[int], object]]:
    """Show a progress bar on a terminal, and log one line elsewhere.

    Yields:
        A function to call with the number of bytes that have come since the last call.
    """
    from rich import progress
    from rich.console import Console

    console = Console()
    if not console.is_terminal:
        LOGGER.info("Downloading %s (%.1f MB)", url, size / 1e6)
        yield lambda count: None
        return
    with progress.Progress(
        progress.TextColumn("Downloading {task.description}"),
        progress.BarColumn(),
        progress.DownloadColumn(),
        progress.TransferSpeedColumn(),
        progress.TimeRemainingColumn(),
        console=console,
        transient=True,
    ) as bar:
        task = bar.add_task(url.rsplit("/", 1)[-1], total=size)
        yield lambda count: bar.advance(task, count)
