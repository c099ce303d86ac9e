"""MNIST through TensorFlow Datasets (TFDS), without TensorFlow, in its order.

TFDS reads ArrayRecord files without TensorFlow, but its own `mnist` builder needs it to
write them. The builder below does not, and writes the same files.
"""

import contextlib
import io
import logging
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image

from mnist_jax import files
from mnist_jax.config import Data
from mnist_jax.data import idx_sets, raster
from mnist_jax.data.dataset import DataError, Split

LOGGER = logging.getLogger(__name__)
VERSION = "3.0.1"  # of the stock builder, which looks for a folder of this name


def load(config: Data) -> tuple[Split, Split]:
    """Read the images in this package's cache folder, prepared there by the first call.

    Raises:
        DataError: as `idx_sets.load`; or the prepared set cannot be written or read.
    """
    prepared = files.cache_folder() / "tensorflow_datasets" / "mnist" / VERSION
    if not prepared.exists():
        train, test = idx_sets.load(config)
        _prepare(prepared, {"train": train, "test": test})
    way_out = "Delete it to have it prepared again"
    with _using_tfds(f"{prepared} cannot be read without TensorFlow", way_out):
        return _read(prepared, "train"), _read(prepared, "test")


class _Builder(tfds.core.GeneratorBasedBuilder, skip_registration=True):  # type: ignore[call-arg]
    """Writes MNIST as the stock builder does, but without TensorFlow."""

    name = "mnist"
    VERSION = tfds.core.Version(VERSION)

    def __init__(self, *, splits: Mapping[str, Split], **kwargs: Any):
        self._splits = splits
        super().__init__(**kwargs)

    def _info(self) -> tfds.core.DatasetInfo:
        image = tfds.features.Image(shape=(28, 28, 1))
        label = tfds.features.ClassLabel(num_classes=10)
        features = tfds.features.FeaturesDict({"image": image, "label": label})
        return tfds.core.DatasetInfo(builder=self, features=features)

    def _split_generators(self, dl_manager: object) -> dict[str, Iterator]:
        return {name: self._generate_examples(s) for name, s in self._splits.items()}

    def _generate_examples(self, split: Split) -> Iterator[tuple[int, dict]]:
        for index, image in enumerate(split.images):
            png = io.BytesIO()  # TFDS would need TensorFlow to encode an array
            Image.fromarray(image[..., 0]).save(png, "PNG", compress_level=1)  # fast
            yield index, {"image": png.getvalue(), "label": int(split.labels[index])}


def _prepare(prepared: Path, splits: Mapping[str, Split]) -> None:
    LOGGER.info("Preparing %s (once; takes some seconds)", prepared)
    way_out = "Make room, or name another cache with XDG_CACHE_HOME=FOLDER"
    try:
        with (
            _using_tfds(f"{prepared} cannot be prepared", way_out),
            tempfile.TemporaryDirectory() as scratch,  # TFDS insists on such a folder
        ):
            options = {"data_dir": prepared.parents[1], "file_format": "array_record"}
            builder = _Builder(splits=splits, **options)
            config = tfds.download.DownloadConfig(try_download_gcs=False)
            builder.download_and_prepare(download_dir=scratch, download_config=config)
    except DataError:
        if not prepared.exists():  # otherwise another process has been faster
            raise


def _read(prepared: Path, part: str) -> Split:
    builder: Any = tfds.builder_from_directory(prepared)
    decoders = {"image": tfds.decode.SkipDecoding()}  # it warns without OpenCV
    source = builder.as_data_source(part, decoders=decoders)
    rows = source.__getitems__(range(len(source)))
    images = np.empty((len(rows), 28, 28, 1), np.uint8)
    for index, row in enumerate(rows):
        with raster.open_image(io.BytesIO(row["image"])) as image:
            images[index, ..., 0] = np.asarray(image)
    return Split(images, np.array([row["label"] for row in rows], np.uint8))


@contextlib.contextmanager
def _using_tfds(failure: str, way_out: str) -> Iterator[None]:
    """Silence TFDS's progress; whatever it raises becomes a DataError."""
    tfds.disable_progress_bar()
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    except Exception as error:
        reason = f"{type(error).__name__}: {error}".splitlines()[0].rstrip(".")
        message = f"{failure}: {reason}. {way_out}, or use --config.data.source=mnist."
        raise DataError(message) from error
