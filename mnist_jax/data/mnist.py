"""The four official MNIST files: where they lie, how to get them, what they must be.

Y. LeCun, C. Cortes and C. J. C. Burges, "The MNIST database of handwritten digits",
http://yann.lecun.com/exdb/mnist/; the method is in LeCun et al., "Gradient-based
learning applied to document recognition", Proc. IEEE 86(11), 1998.
"""

import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from mnist_jax import files
from mnist_jax.data import idx
from mnist_jax.data.dataset import DataError, Split


@dataclasses.dataclass(frozen=True)
class OfficialFile:
    """One of the four files, as published.

    Attributes:
        name: without `.gz`.
        sha256: of the unpacked content, in hex; a file may have been compressed anew.
        gz_size: bytes of the published `.gz`.
        gz_sha256: of the published `.gz`, in hex.
    """

    name: str
    sha256: str
    gz_size: int
    gz_sha256: str


# Part -> (images, labels).
FILES: dict[str, tuple[OfficialFile, OfficialFile]] = {
    "train": (
        OfficialFile(
            name="train-images-idx3-ubyte",
            sha256="ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
            gz_size=9_912_422,
            gz_sha256="440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
        ),
        OfficialFile(
            name="train-labels-idx1-ubyte",
            sha256="65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
            gz_size=28_881,
            gz_sha256="3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
        ),
    ),
    "test": (
        OfficialFile(
            name="t10k-images-idx3-ubyte",
            sha256="0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
            gz_size=1_648_877,
            gz_sha256="8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
        ),
        OfficialFile(
            name="t10k-labels-idx1-ubyte",
            sha256="ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
            gz_size=4_542,
            gz_sha256="f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
        ),
    ),
}


def data_dir(configured: str | None) -> Path:
    """Return the folder of the data files.

    Args:
        configured: `config.data.dir`. Unset: `$MNIST_DIR`, else `mnist_jax` in the
            user's cache folder (`$XDG_CACHE_HOME`, else `~/.cache`).
    """
    chosen = configured or os.environ.get("MNIST_DIR")
    if chosen:
        return Path(chosen).expanduser()
    return files.cache_folder()


def load(folder: Path, mirrors: Sequence[str]) -> tuple[Split, Split]:
    """Read the official files from a folder; download to it those that are missing.

    A file that is there is never changed: if it is not what it should be, that is an
    error.

    Args:
        folder: where the files lie, packed with gzip or not.
        mirrors: URLs of folders that have the published `.gz` files, tried in turn.

    Returns:
        The 60,000 training and the 10,000 test images, in the order of the files.

    Raises:
        DataError: a file is damaged, is another file, or cannot be had.
    """
    # All four first: a missing one is worth a message before the others are unpacked.
    paths = {
        part: [_find_or_download(folder, file, mirrors) for file in files]
        for part, files in FILES.items()
    }
    return _read(paths["train"], FILES["train"]), _read(paths["test"], FILES["test"])


def _find_or_download(folder: Path, file: OfficialFile, mirrors: Sequence[str]) -> Path:
    """Return the path of an official file that lies in the folder now."""
    # Some collections name the files with a dot: train-images.idx3-ubyte.
    names = (file.name, file.name.replace("-idx", ".idx"))
    try:
        for name in names:
            for path in (folder / name, folder / f"{name}.gz"):
                if path.is_file():
                    return path
    except OSError as error:
        raise _unreadable(folder, error) from error

    from mnist_jax import download  # Needs requests: not for those who have it.

    path = folder / f"{file.name}.gz"
    try:
        download.fetch(
            [f"{mirror.rstrip('/')}/{path.name}" for mirror in mirrors],
            path,
            size=file.gz_size,
            checksum=f"sha256:{file.gz_sha256}",
            way_out="name another folder with --config.data.dir=FOLDER",
        )
    except download.CannotWrite as error:
        raise DataError(str(error)) from error
    except download.MirrorsFailed as error:
        all_names = [f"{file.name}.gz" for files in FILES.values() for file in files]
        raise DataError(
            f"{path} is missing and could not be downloaded:\n{error}\n"
            f"Without a network, put the four files ({', '.join(all_names)}) in a "
            "folder and pass --config.data.dir=FOLDER or set MNIST_DIR=FOLDER; or use "
            "the digits that come with scikit-learn (--config.data.source=digits), "
            "ready to run with --config=configs/quickstart.py."
        ) from error
    return path


def _read(paths: Sequence[Path], files: Sequence[OfficialFile]) -> Split:
    """Read the images and labels of one part; the most telling checks come first."""
    images_path, labels_path = paths
    images = _read_array(images_path, "images", "[N, 28, 28]")
    labels = _read_array(labels_path, "labels", "[N]")
    if len(images) != len(labels):
        raise DataError(
            f"{images_path} has {len(images):,} images, but {labels_path} has "
            f"{len(labels):,} labels: they do not belong together. Put the right files "
            "there, or delete the wrong one and run again to download it anew."
        )
    if np.any(labels > 9):
        index = np.argmax(labels > 9)
        raise _bad_file(
            labels_path,
            f"has the label {labels[index]} at index {index}, where labels are 0..9",
        )
    for path, array, file in zip(paths, (images, labels), files, strict=True):
        checksum = idx.checksum(array)
        if checksum != file.sha256:
            raise _bad_file(
                path,
                "is well formed but not the official MNIST file: damaged, or of "
                "another data set (sha256 of the unpacked content: "
                f"{checksum}, officially {file.sha256})",
            )
    return Split(images[..., np.newaxis], labels)


def _read_array(path: Path, what: str, shape: str) -> UInt8[np.ndarray, "N ..."]:
    """Read an IDX file that must hold one or more images or labels."""
    try:
        array = idx.read(path)
    except idx.IdxError as error:
        raise _bad_file(path, str(error)) from error
    except OSError as error:
        raise _unreadable(path, error) from error
    row_shape = (28, 28) if what == "images" else ()
    if array.ndim != 1 + len(row_shape) or array.shape[1:] != row_shape:
        raise _bad_file(
            path, f"has the shape {list(array.shape)}, where {what} have {shape}"
        )
    if not len(array):
        raise _bad_file(path, f"has no {what} in it")
    return array


def _bad_file(path: Path, reason: str) -> DataError:
    return DataError(
        f"{path} {reason}. Delete it and run again to download it anew, or name a "
        "folder that has the official files with --config.data.dir=FOLDER."
    )


def _unreadable(path: Path, error: OSError) -> DataError:
    return DataError(
        f"{path} cannot be read: {error.strerror or error}. Give yourself the right to "
        "read it, or name another folder with --config.data.dir=FOLDER."
    )
