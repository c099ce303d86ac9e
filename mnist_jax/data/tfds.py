"""MNIST through TensorFlow Datasets (TFDS), without TensorFlow.

TFDS (https://www.tensorflow.org/datasets) reads ArrayRecord files without TensorFlow,
but its own `mnist` builder needs TensorFlow to write them. The builder below does not,
and the stock builder reads what it writes:
`tfds.data_source("mnist", data_dir="~/.cache/mnist_jax/tensorflow_datasets")`.
"""

import contextlib
import hashlib
import io
import logging
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from jaxtyping import Int, UInt8
from PIL import Image

from mnist_jax import files
from mnist_jax.data import idx, mnist, raster
from mnist_jax.data.dataset import DataError, Split

LOGGER = logging.getLogger(__name__)

# Of the stock builder, which looks for a folder of this name.
VERSION = "3.0.1"


def load(folder: Path, mirrors: Sequence[str]) -> tuple[Split, Split]:
    """Read the prepared set; prepare it from the official files if it does not exist.

    The set is read from `folder/tensorflow_datasets` if it is there, else from this
    package's cache folder, where it is prepared (27 MB) if necessary.

    Args:
        folder: contains the official files. They are needed, and downloaded if missing,
            only to prepare the set.
        mirrors: as in `mnist.load`.

    Returns:
        The 60,000 training and the 10,000 test images, in the official files' order.

    Raises:
        DataError: as `mnist.load`; or the prepared set cannot be written or read, or
            does not contain the official images.
    """
    below = Path("tensorflow_datasets", "mnist", VERSION)
    prepared = folder / below
    if not os.path.exists(prepared):
        prepared = files.cache_folder() / below
    if not os.path.exists(prepared):
        train, test = mnist.load(folder, mirrors)
        _prepare(prepared, {"train": train, "test": test})
    return _read(prepared, "train"), _read(prepared, "test")


class _Builder(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """Writes MNIST as the stock builder does, but without TensorFlow and unshuffled."""

    name = "mnist"
    VERSION = tfds.core.Version(VERSION)

    def __init__(self, *, splits: Mapping[str, Split], **kwargs: Any):
        self._splits = splits
        super().__init__(**kwargs)

    def _info(self) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(
            builder=self,
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(shape=(28, 28, 1)),
                    "label": tfds.features.ClassLabel(num_classes=10),
                }
            ),
            supervised_keys=("image", "label"),
            disable_shuffling=True,
        )

    def _split_generators(self, dl_manager: object) -> dict[str, Iterator]:
        return {name: self._generate_examples(s) for name, s in self._splits.items()}

    def _generate_examples(self, split: Split) -> Iterator[tuple[int, dict]]:
        for index, image in enumerate(split.images):
            # TFDS would need TensorFlow to encode an array.
            png, label = _encode_png(image[..., 0]), int(split.labels[index])
            yield index, {"image": png, "label": label}


def _prepare(prepared: Path, splits: Mapping[str, Split]) -> None:
    """Write the prepared set: TFDS writes to a temporary folder, and renames it."""
    root = prepared.parent.parent
    LOGGER.info("Preparing %s (once; takes some seconds)", prepared)
    try:
        with _quiet_tfds(), tempfile.TemporaryDirectory() as scratch:
            builder = _Builder(splits=splits, data_dir=root, file_format="array_record")
            builder.download_and_prepare(
                download_dir=scratch,  # stays empty, but TFDS insists on creating it
                download_config=tfds.download.DownloadConfig(try_download_gcs=False),
            )
    except Exception as error:  # whatever TFDS or the record writer may raise
        # TFDS cannot rename its folder if another process has been faster; that
        # process's folder is as good.
        if not os.path.exists(prepared):
            raise DataError(
                f"{prepared} cannot be prepared: {_first_line(error)}. Make room, "
                "make the folder writable, choose another cache with the variable "
                "XDG_CACHE_HOME, or do without TensorFlow Datasets: "
                "--config.data.source=mnist."
            ) from error


def _read(prepared: Path, part: str) -> Split:
    """Read one part in the order of the official files, and verify its checksum."""
    try:
        with _quiet_tfds():
            # Any: decorators hide the parameters of its methods from type checkers.
            builder: Any = tfds.builder_from_directory(prepared)
            # TFDS would decode the images with a warning that OpenCV is faster.
            source = builder.as_data_source(
                part, decoders={"image": tfds.decode.SkipDecoding()}
            )
            rows = source.__getitems__(range(len(source)))
        images = np.stack([_decode_png(row["image"]) for row in rows])
        labels = np.array([row["label"] for row in rows], dtype=np.uint8)
    except NotImplementedError as error:
        raise _bad_folder(
            prepared, "is not in ArrayRecord files, and others need TensorFlow"
        ) from error
    except Exception as error:  # whatever a damaged file may raise
        raise _bad_folder(prepared, f"cannot be read: {_first_line(error)}") from error
    if not builder.info.disable_shuffling:
        order = _shuffled_order(part, len(labels))
        images[order], labels[order] = images.copy(), labels.copy()
    official = [file.sha256 for file in mnist.FILES[part]]
    if [idx.checksum(images), idx.checksum(labels)] != official:
        raise _bad_folder(prepared, f"does not have MNIST's {part} images and labels")
    return Split(images[..., np.newaxis], labels)


def _shuffled_order(part: str, count: int) -> Int[np.ndarray, " count"]:
    """Return the index in the official file of each row of a shuffled set.

    The stock builder's sets are shuffled: TFDS sorts rows by a hash of their key, here
    the index (`tensorflow_datasets/core/shuffle.py` and `hashing.py`).
    """
    hashes = [
        hashlib.md5(f"{part}{index}".encode(), usedforsecurity=False).digest()
        for index in range(count)
    ]
    return np.array(sorted(range(count), key=hashes.__getitem__), dtype=np.int64)


def _encode_png(image: UInt8[np.ndarray, "28 28"]) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, format="PNG", compress_level=1)  # 1: fast
    return buffer.getvalue()


def _decode_png(content: bytes) -> UInt8[np.ndarray, "28 28"]:
    with raster.open_image(io.BytesIO(content)) as image:
        return np.asarray(image)


@contextlib.contextmanager
def _quiet_tfds() -> Iterator[None]:
    """Silence TFDS's progress messages, but not its warnings and errors."""
    tfds.disable_progress_bar()
    absl_logger = logging.getLogger("absl")
    level = absl_logger.level
    absl_logger.setLevel(max(level, logging.WARNING))
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        absl_logger.setLevel(level)


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".splitlines()[0].rstrip(".")


def _bad_folder(prepared: Path, reason: str) -> DataError:
    return DataError(
        f"{prepared} {reason}. Move it away or delete it and run again to prepare it "
        "anew, or do without TensorFlow Datasets: --config.data.source=mnist."
    )
