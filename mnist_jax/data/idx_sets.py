"""MNIST and sets of its format: finding, downloading and verifying their files.

MNIST: Y. LeCun, C. Cortes and C. J. C. Burges, http://yann.lecun.com/exdb/mnist/; the
method is in LeCun et al., "Gradient-based learning applied to document recognition",
Proc. IEEE 86(11), 1998. Fashion-MNIST: https://arxiv.org/abs/1708.07747. KMNIST:
https://arxiv.org/abs/1812.01718. EMNIST: https://arxiv.org/abs/1702.05373. QMNIST:
https://arxiv.org/abs/1905.10498.
"""

import gzip
import hashlib
import io
import os
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from mnist_jax import files
from mnist_jax.config import Data
from mnist_jax.data import idx
from mnist_jax.data.dataset import DIGITS, DataError, Split

__all__ = ["SETS", "SHA256", "IdxSet", "data_dir", "find", "load"]

_SUMS = Path(__file__).with_name("sha256sums.txt").read_text()
SHA256 = {name: checksum for checksum, name in map(str.split, _SUMS.splitlines())}
"""By the folder and name of a file: the SHA-256 in hex, without `.gz` of the content.
If that of the content is not published, only the compressed file can be verified."""


class IdxSet(NamedTuple):
    """A data set of four files: its images and labels to train on and to test on."""

    folder: str
    """The name of its cache folder; in capitals with _DIR, of its variable."""
    mirrors: tuple[str, ...]
    """URLs of folders with the published files."""
    classes: tuple[str, ...] = DIGITS.classes
    files: tuple[str, ...] = (
        "train-images-idx3-ubyte.gz",
        "train-labels-idx1-ubyte.gz",
        "t10k-images-idx3-ubyte.gz",
        "t10k-labels-idx1-ubyte.gz",
    )
    """The files in the order above, or an archive of them."""
    members: tuple[str, ...] = ()
    """The names of the four files in the archive."""
    transposed: bool = False
    """Whether the rows and columns of the images are exchanged in the files."""
    first_label: int = 0


def _emnist(part: str, classes: Sequence[str], first_label: int = 0) -> IdxSet:
    return IdxSet(
        "emnist",
        (
            "https://biometrics.nist.gov/cs_links/EMNIST/",
            "https://www.itl.nist.gov/iaui/vip/cs_links/EMNIST/",
        ),
        tuple(classes),
        ("gzip.zip",),
        tuple(
            f"gzip/emnist-{part}-{use}-{kind}-ubyte.gz"
            for use in ("train", "test")
            for kind in ("images-idx3", "labels-idx1")
        ),
        transposed=True,
        first_label=first_label,
    )


_CAPITALS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
SETS: dict[str, IdxSet] = {
    "mnist": IdxSet("mnist", Data().mirrors),
    "fashion_mnist": IdxSet(
        "fashion_mnist",
        (
            "https://storage.googleapis.com/tensorflow/tf-keras-datasets/",
            "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/",
        ),
        (
            *("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat"),
            *("Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
        ),
    ),
    "kmnist": IdxSet(
        "kmnist",
        (
            "https://codh.rois.ac.jp/kmnist/dataset/kmnist/",
            "https://storage.googleapis.com/kuzushiji-mnist/",
        ),
        ("o", "ki", "su", "tsu", "na", "ha", "ma", "ya", "re", "wo"),
    ),
    "emnist_digits": _emnist("digits", DIGITS.classes),
    "emnist_letters": _emnist("letters", _CAPITALS, first_label=1),
    # Small letters that differ from capitals by their size alone count as these.
    "emnist_balanced": _emnist("balanced", f"0123456789{_CAPITALS}abdefghnqrt"),
    "qmnist": IdxSet(
        "qmnist",
        ("https://raw.githubusercontent.com/facebookresearch/qmnist/master/",),
        files=tuple(
            f"qmnist-{use}-{kind}.gz"
            for use in ("train", "test")
            for kind in ("images-idx3-ubyte", "labels-idx2-int")
        ),
    ),
}
"""By the name of the source."""

_WAY_OUT = (
    "Delete it to have it downloaded, or name a folder that has the official files "
    "with --config.data.dir=FOLDER."
)


def data_dir(configured: str | None, name: str = "mnist") -> Path:
    """Return the folder of a set's files.

    Args:
        configured: `config.data.dir`. If it is not set: the folder that the set's
            environment variable names, such as `$FASHION_MNIST_DIR`; else a folder of
            its own in `mnist_jax` in the user's cache folder (`$XDG_CACHE_HOME`, else
            `~/.cache`), or for MNIST this folder itself.
        name: a key of `SETS`.
    """
    found = SETS[name]
    if chosen := configured or os.environ.get(f"{found.folder.upper()}_DIR"):
        return files.expand(chosen)
    cache = files.cache_folder()
    return cache if name == "mnist" else cache / found.folder


def load(config: Data, name: str = "mnist") -> tuple[Split, Split]:
    """Read the official files from a folder, and download missing ones to it.

    An existing file is never changed: if it is not the official one, that is an error.

    Args:
        config: `dir` may contain the files, compressed with gzip or not; `mirrors` are
            URLs of folders with the published files, tried in turn, if they are not
            those of MNIST, the default.
        name: a key of `SETS`.

    Returns:
        All training images and all test images, in the order of the files.

    Raises:
        UserError: a file is damaged, is not the official one, or is missing and cannot
            be downloaded.
    """
    found, folder = SETS[name], data_dir(config.dir, name)
    mirrors = found.mirrors if config.mirrors == Data().mirrors else config.mirrors
    # Find all files before reading any, to report a missing one sooner.
    paths = [_find_or_download(folder, found, file, mirrors) for file in found.files]
    published = [f"{found.folder}/{file}" for file in found.files]
    contents = list(map(_read, paths, published))
    if found.members:
        with zipfile.ZipFile(io.BytesIO(contents[0])) as archive:
            contents = [gzip.decompress(archive.read(name)) for name in found.members]
        paths *= len(contents)
    images, labels, test_images, test_labels = map(idx.parse, contents, paths)
    return _split(images, labels, found), _split(test_images, test_labels, found)


def find(folder: Path, name: str) -> Path | None:
    """Return the path of a file `name`, which ends with `.gz`, compressed or not.

    Returns None if it is not in the folder.
    """
    # Some collections name the files with a dot: train-images.idx3-ubyte.
    for spelling in (name, name.replace("-idx", ".idx")):
        for path in (folder / spelling, folder / spelling.removesuffix(".gz")):
            if path.is_file():
                return path
    return None


def _find_or_download(
    folder: Path, found: IdxSet, name: str, mirrors: Sequence[str]
) -> Path:
    if path := find(folder, name):
        return path

    from mnist_jax.files import download  # Imported late: only downloads need pooch.

    path = folder / name
    download.fetch(
        [f"{mirror.rstrip('/')}/{name}" for mirror in mirrors],
        path,
        checksum=f"sha256:{SHA256[f'{found.folder}/{name}']}",
        way_out=f"Put {', '.join(found.files)} in a folder and pass "
        f"--config.data.dir=FOLDER or set {found.folder.upper()}_DIR=FOLDER; or use "
        "the digits that come with scikit-learn (--config.data.source=digits), ready "
        "to run with --config=configs/quickstart.py.",
    )
    return path


def _read(path: Path, published: str) -> bytes:
    """Return the uncompressed content of a published file, a key of `SHA256`."""
    try:
        content = idx.read_bytes(path)
    except DataError as error:
        raise DataError(f"{error} {_WAY_OUT}") from error
    checksum = hashlib.sha256(content).hexdigest()
    if SHA256.get(published.removesuffix(".gz")) == checksum:
        return content
    packed = hashlib.sha256(path.read_bytes()).hexdigest()
    if SHA256[published] == packed:
        return content
    known = {checksum: name for name, checksum in SHA256.items()}
    reason = (
        known.get(checksum)
        or known.get(packed)
        or "damaged, changed, or from another data set (uncompressed, it has "
        f"{len(content):,} bytes and the SHA-256 {checksum})"
    )
    raise DataError(
        f"{path} is not the official file {published}: it is {reason}. {_WAY_OUT}"
    )


def _split(images: np.ndarray, labels: np.ndarray, found: IdxSet) -> Split:
    if found.transposed:
        images = images.swapaxes(1, 2).copy()
    if labels.ndim == 2:  # QMNIST's labels have more columns, on the writer for example
        labels = labels[:, 0].astype(np.uint8)
    return Split(images[..., np.newaxis], labels - found.first_label)
