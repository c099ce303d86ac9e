"""The four official MNIST files: finding, downloading and verifying them.

Y. LeCun, C. Cortes and C. J. C. Burges, "The MNIST database of handwritten digits",
http://yann.lecun.com/exdb/mnist/; the method is in LeCun et al., "Gradient-based
learning applied to document recognition", Proc. IEEE 86(11), 1998.
"""

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import UInt8

from mnist_jax import files
from mnist_jax.config import Data
from mnist_jax.data import idx
from mnist_jax.data.dataset import DataError, Split


class OfficialFile(NamedTuple):
    """The checksums of one of the four files, in hex."""

    sha256: str
    """Of the uncompressed content, which any compression preserves."""
    gz_sha256: str
    """Of the published `.gz`."""


_WAY_OUT = (
    "Delete it to have it downloaded, or name a folder that has the official files "
    "with --config.data.dir=FOLDER."
)
# By name, without `.gz`.
FILES = {
    "train-images-idx3-ubyte": OfficialFile(
        "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
        "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
    ),
    "train-labels-idx1-ubyte": OfficialFile(
        "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
        "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
    ),
    "t10k-images-idx3-ubyte": OfficialFile(
        "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
        "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
    ),
    "t10k-labels-idx1-ubyte": OfficialFile(
        "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
        "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
    ),
}


def data_dir(configured: str | None) -> Path:
    """Return the folder of the data files.

    Args:
        configured: `config.data.dir`. If it is not set: `$MNIST_DIR`, else `mnist_jax`
            in the user's cache folder (`$XDG_CACHE_HOME`, else `~/.cache`).
    """
    chosen = configured or os.environ.get("MNIST_DIR")
    return Path(chosen).expanduser() if chosen else files.cache_folder()


def load(config: Data) -> tuple[Split, Split]:
    """Read the official files from a folder, and download missing ones to it.

    An existing file is never changed: if it is not the official one, that is an error.

    Args:
        config: `dir` may contain the files, compressed with gzip or not; `mirrors` are
            URLs of folders with the published `.gz` files, tried in turn.

    Returns:
        The 60,000 training and the 10,000 test images, in the order of the files.

    Raises:
        UserError: a file is damaged, is not the official one, or is missing and cannot
            be downloaded.
    """
    folder = data_dir(config.dir)
    # Find all four before reading any, to report a missing one sooner.
    paths = {name: _find_or_download(folder, name, config.mirrors) for name in FILES}
    images, labels, test_images, test_labels = (
        _read_file(path, FILES[name].sha256) for name, path in paths.items()
    )
    train = Split(images[..., np.newaxis], labels)
    return train, Split(test_images[..., np.newaxis], test_labels)


def _find_or_download(folder: Path, name: str, mirrors: Sequence[str]) -> Path:
    # Some collections name the files with a dot: train-images.idx3-ubyte.
    for spelling in (name, name.replace("-idx", ".idx")):
        for path in (folder / spelling, folder / f"{spelling}.gz"):
            if path.is_file():
                return path

    from mnist_jax.files import download  # Imported late: only downloads need pooch.

    path = folder / f"{name}.gz"
    download.fetch(
        [f"{mirror.rstrip('/')}/{path.name}" for mirror in mirrors],
        path,
        checksum=f"sha256:{FILES[name].gz_sha256}",
        way_out=f"Put the four files ({', '.join(f'{name}.gz' for name in FILES)}) in "
        "a folder and pass --config.data.dir=FOLDER or set MNIST_DIR=FOLDER; or use "
        "the digits that come with scikit-learn (--config.data.source=digits), ready "
        "to run with --config=configs/quickstart.py.",
    )
    return path


def _read_file(path: Path, sha256: str) -> UInt8[np.ndarray, "N ..."]:
    try:
        content = idx.read_bytes(path)
    except DataError as error:
        raise DataError(f"{error} {_WAY_OUT}") from error
    checksum = hashlib.sha256(content).hexdigest()
    if checksum != sha256:
        raise DataError(
            f"{path} is not the official MNIST file: it is damaged, incomplete, or "
            f"from another data set (uncompressed, it has {len(content):,} bytes and "
            f"the SHA-256 {checksum} instead of {sha256}). {_WAY_OUT}"
        )
    return idx.parse(content, path)
