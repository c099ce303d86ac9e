"""Downloads of files with a known checksum from one of several mirrors."""

import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pooch

from mnist_jax.errors import UserError

LOGGER = logging.getLogger(__name__)
TIMEOUT = (10.0, 30.0)  # seconds: for a connection, and for the next bytes


def fetch(urls: Sequence[str], path: Path, *, checksum: str, way_out: str) -> None:
    """Download a file from the first of several mirrors that delivers it.

    The file appears at `path` only once it is complete and verified.

    Args:
        urls: tried in turn.
        path: of the file. Its folder is created if necessary.
        checksum: of the file: an algorithm of `hashlib`, a colon, and hex digits.
        way_out: how to do without the download: a sentence that ends the messages.

    Raises:
        UserError: no mirror delivered this very file, or it cannot be written.
    """
    pooch.get_logger().setLevel(logging.WARNING)
    # No compression in transit: the checksum is that of the stored file.
    options = {"timeout": TIMEOUT, "headers": {"Accept-Encoding": "identity"}}
    download: Any = pooch.HTTPDownloader(sys.stderr.isatty(), 1 << 16, **options)
    failures = []
    for url in urls:
        LOGGER.info("Downloading %s", url)
        try:
            pooch.retrieve(url, checksum, path.name, path.parent, downloader=download)
            umask = os.umask(0)
            os.umask(umask)
            path.chmod(0o666 & ~umask)  # pooch's file is its owner's alone
            return
        except (OSError, ValueError) as error:
            if getattr(error, "errno", None):  # of the disk; requests sets none
                raise UserError(f"Cannot write {path}: {error}. {way_out}") from error
            failures.append(f"{url}: {_reason(error)}.")
            LOGGER.warning(failures[-1])
    raise UserError(
        f"{path} is missing and could not be downloaded:\n"
        + "\n".join(failures or ["there is no mirror to ask."])
        + f"\n{way_out}"
    )


def _reason(error: BaseException) -> str:
    while deeper := error.__cause__ or error.__context__:
        error = deeper  # requests wraps errors several times
    return getattr(error, "strerror", None) or str(error).rstrip(".")
