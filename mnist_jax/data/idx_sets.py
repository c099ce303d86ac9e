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
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from mnist_jax import files
from mnist_jax.config import Data
from mnist_jax.data import idx
from mnist_jax.data.dataset import DIGITS, DataError, Split

__all__ = ["SETS", "IdxSet", "Published", "data_dir", "load"]


class Published(NamedTuple):
    """The checksums of a published file, SHA-256 in hex."""

    packed: str
    """Of the file as it is downloaded."""
    unpacked: str = ""
    """Of the uncompressed content, which any compression preserves. If it is not known,
    only the published file itself can be verified."""


class IdxSet(NamedTuple):
    """A data set of four files: its images and labels to train on and to test on."""

    title: str
    mirrors: tuple[str, ...]
    """URLs of folders with the published files."""
    files: Mapping[str, Published]
    """By name: the four in the order above, or an archive of them."""
    classes: tuple[str, ...] = DIGITS.classes
    members: tuple[str, ...] = ()
    """The names of the four files in the archive."""
    transposed: bool = False
    """Whether the rows and columns of the images are exchanged in the files."""
    first_label: int = 0

    @property
    def folder(self) -> str:
        """The name of its cache folder; in capitals, that of its variable."""
        return self.title.lower().replace("-", "_")

    @property
    def variable(self) -> str:
        """The environment variable that names the folder of its files."""
        return f"{self.folder.upper()}_DIR"


def _mnist_files(*checksums: Published) -> dict[str, Published]:
    names = ("train-images-idx3", "train-labels-idx1")
    names += ("t10k-images-idx3", "t10k-labels-idx1")
    return {
        f"{name}-ubyte.gz": each for name, each in zip(names, checksums, strict=True)
    }


def _emnist(part: str, classes: Sequence[str], first_label: int = 0) -> IdxSet:
    return IdxSet(
        "EMNIST",
        (
            "https://biometrics.nist.gov/cs_links/EMNIST/",
            "https://www.itl.nist.gov/iaui/vip/cs_links/EMNIST/",
        ),
        {
            "gzip.zip": Published(
                "fb9bb67e33772a9cc0b895e4ecf36d2cf35be8b709693c3564cea2a019fcda8e"
            )
        },
        tuple(classes),
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
    "mnist": IdxSet(
        "MNIST",
        Data().mirrors,
        _mnist_files(
            Published(
                "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
                "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
            ),
            Published(
                "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
                "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
            ),
            Published(
                "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
                "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
            ),
            Published(
                "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
                "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
            ),
        ),
    ),
    "fashion_mnist": IdxSet(
        "Fashion-MNIST",
        ("http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",),
        _mnist_files(
            Published(
                "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
                "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
            ),
            Published(
                "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
                "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
            ),
            Published(
                "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
                "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
            ),
            Published(
                "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
                "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
            ),
        ),
        (
            *("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat"),
            *("Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
        ),
    ),
    "kmnist": IdxSet(
        "KMNIST",
        (
            "https://codh.rois.ac.jp/kmnist/dataset/kmnist/",
            "https://storage.googleapis.com/kuzushiji-mnist/",
        ),
        _mnist_files(
            Published(
                "51467d22d8cc72929e2a028a0428f2086b092bb31cfb79c69cc0a90ce135fde4"
            ),
            Published(
                "e38f9ebcd0f3ebcdec7fc8eabdcdaef93bb0df8ea12bee65224341c8183d8e17"
            ),
            Published(
                "edd7a857845ad6bb1d0ba43fe7e794d164fe2dce499a1694695a792adfac43c5"
            ),
            Published(
                "20bb9a0ef54c7db3efc55a92eef5582c109615df22683c380526788f98e42a1c"
            ),
        ),
        ("o", "ki", "su", "tsu", "na", "ha", "ma", "ya", "re", "wo"),
    ),
    "emnist_digits": _emnist("digits", DIGITS.classes),
    "emnist_letters": _emnist("letters", _CAPITALS, first_label=1),
    # Small letters that differ from capitals by their size alone count as these.
    "emnist_balanced": _emnist("balanced", f"0123456789{_CAPITALS}abdefghnqrt"),
    "qmnist": IdxSet(
        "QMNIST",
        ("https://raw.githubusercontent.com/facebookresearch/qmnist/master/",),
        {
            "qmnist-train-images-idx3-ubyte.gz": Published(
                "9e26a7bf1683614e065d7b76460ccd52807165b3f22561fb782bd9f38c52b51d"
            ),
            "qmnist-train-labels-idx2-int.gz": Published(
                "2c05dc77f6b916b38e455e97ab129a42a444f3dbef09b278a366f82904e0dd9f",
                "bb1b6e1ec7b04fd5696f1ed50b5f58f8ef195118edd5c93c81783df9740b8ac5",
            ),
            "qmnist-test-images-idx3-ubyte.gz": Published(
                "43fc22bf7498b8fc98de98369d72f752d0deabc280a43a7bcc364ab19e57b375"
            ),
            "qmnist-test-labels-idx2-int.gz": Published(
                "9fbcbe594c3766fdf4f0b15c5165dc0d1e57ac604e01422608bb72c906030d06",
                "92d0ccb8c25f9c6534270fb4be7e1d24a1c6d315edfc8a638bfbd31c70f362dd",
            ),
        },
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
    if chosen := configured or os.environ.get(found.variable):
        return Path(chosen).expanduser()
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
    contents = [
        _read(path, found, file) for path, file in zip(paths, found.files, strict=True)
    ]
    if found.members:
        with zipfile.ZipFile(io.BytesIO(contents[0])) as archive:
            contents = [gzip.decompress(archive.read(name)) for name in found.members]
        paths *= len(contents)
    images, labels, test_images, test_labels = map(idx.parse, contents, paths)
    return _split(images, labels, found), _split(test_images, test_labels, found)


def _find_or_download(
    folder: Path, found: IdxSet, name: str, mirrors: Sequence[str]
) -> Path:
    # Some collections name the files with a dot: train-images.idx3-ubyte.
    for spelling in (name, name.replace("-idx", ".idx")):
        unpacked = folder / spelling.removesuffix(".gz")
        # An unpacked file without a checksum cannot be verified.
        if found.files[name].unpacked and unpacked.is_file():
            return unpacked
        if (folder / spelling).is_file():
            return folder / spelling

    from mnist_jax.files import download  # Imported late: only downloads need pooch.

    path = folder / name
    download.fetch(
        [f"{mirror.rstrip('/')}/{name}" for mirror in mirrors],
        path,
        checksum=f"sha256:{found.files[name].packed}",
        way_out=f"Put what {found.title} consists of ({', '.join(found.files)}) in a "
        f"folder and pass --config.data.dir=FOLDER or set {found.variable}=FOLDER; or "
        "use the digits that come with scikit-learn (--config.data.source=digits), "
        "ready to run with --config=configs/quickstart.py.",
    )
    return path


def _read(path: Path, found: IdxSet, name: str) -> bytes:
    """Return the uncompressed content of an official file."""
    published = found.files[name]
    try:
        content = idx.read_bytes(path)
    except DataError as error:
        raise DataError(f"{error} {_WAY_OUT}") from error
    checksum = hashlib.sha256(content).hexdigest()
    if published.unpacked == checksum:
        return content
    packed = hashlib.sha256(path.read_bytes()).hexdigest()
    if published.packed == packed:
        return content
    reason = (
        "damaged, incomplete, or from another data set (uncompressed, it has "
        f"{len(content):,} bytes and the SHA-256 {checksum}"
    )
    reason += f" instead of {published.unpacked})" if published.unpacked else ")"
    for source, other in SETS.items():
        for its_name, its in other.files.items():
            if checksum == its.unpacked or packed == its.packed:
                reason = f"{its_name} of {other.title} (--config.data.source={source})"
    raise DataError(
        f"{path} is not the official {found.title} file: it is {reason}. {_WAY_OUT}"
    )


def _split(images: np.ndarray, labels: np.ndarray, found: IdxSet) -> Split:
    if found.transposed:
        images = images.swapaxes(1, 2).copy()
    if labels.ndim == 2:  # QMNIST's labels have more columns, on the writer for example
        labels = labels[:, 0].astype(np.uint8)
    return Split(images[..., np.newaxis], labels - found.first_label)
