"""Downloads of files with a known size and checksum from one of several mirrors."""

import contextlib
import hashlib
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

import requests
from rich import progress
from rich.console import Console

from mnist_jax.errors import UserError
from mnist_jax.files import atomic_writer

LOGGER = logging.getLogger(__name__)

# Seconds to wait for a connection, and for the next bytes.
TIMEOUT = (10.0, 30.0)
_CHUNK_BYTES = 1 << 16


class DownloadError(UserError):
    """No mirror delivered the file, or it cannot be written."""


class _MirrorError(Exception):
    """A mirror failed; the message says how."""


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

    The file appears at `destination` only once it is complete and verified. Two
    processes may download the same file at once.

    Args:
        urls: tried in turn.
        destination: path of the file. Its folder is created if necessary.
        size: of the file, in bytes.
        checksum: of the file: an algorithm of `hashlib`, a colon, and hex digits.
        way_out: how to do without the download: a sentence that ends the messages.
        timeout: seconds to wait for a connection, and for the next bytes.

    Raises:
        DownloadError: no mirror delivered this very file, or it cannot be written.
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
            failures.append(f"{url}: {error}.")
        except OSError as error:
            # Of the disk: `_body` turns errors of the network into `_MirrorError`.
            raise DownloadError(
                f"{destination} cannot be written: {error.strerror or error}. {way_out}"
            ) from error
        else:
            return
    if not existed:
        with contextlib.suppress(OSError):  # unless it is not empty
            destination.parent.rmdir()
    raise DownloadError(
        f"{destination} is missing and could not be downloaded:\n"
        + "\n".join(failures or ["there is no mirror to ask."])
        + f"\n{way_out}"
    )


def _receive(
    url: str, file: BinaryIO, *, size: int, checksum: str, timeout: tuple[float, float]
) -> None:
    """Write and verify what one mirror sends, showing the progress on a terminal."""
    algorithm, _, expected = checksum.partition(":")
    digest = hashlib.new(algorithm)
    received = 0
    console = Console()
    if not console.is_terminal:
        LOGGER.info("Downloading %s (%.1f MB)", url, size / 1e6)
    with progress.Progress(
        *progress.Progress.get_default_columns(),
        progress.DownloadColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    ) as bar:
        task = bar.add_task(f"Downloading {url.rsplit('/', 1)[-1]}", total=size)
        for chunk in _body(url, timeout):
            received += len(chunk)
            if received > size:  # stop: it may be anything, of any length
                raise _MirrorError(f"sends more than the {size:,} bytes of the file")
            file.write(chunk)
            digest.update(chunk)
            bar.advance(task, len(chunk))
    if received < size:
        raise _MirrorError(f"sends {received:,} bytes, where the file has {size:,}")
    if digest.hexdigest() != expected:
        raise _MirrorError(
            f"sends another file: its {algorithm} is {digest.hexdigest()}, not "
            f"{expected}"
        )


def _body(url: str, timeout: tuple[float, float]) -> Iterator[bytes]:
    # No compression in transit: the checksum is that of the stored file.
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
    except OSError as error:  # all errors of requests are OSErrors, too
        cause: BaseException = error
        while deeper := cause.__cause__ or cause.__context__:
            cause = deeper
        if isinstance(cause, TimeoutError):
            raise _MirrorError("sends nothing (timed out)") from error
        reason = getattr(cause, "strerror", None) or str(cause) or type(cause).__name__
        raise _MirrorError(reason) from error
