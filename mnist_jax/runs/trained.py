"""The base of all finished runs: what commands know of a network or a combination."""

import abc
import dataclasses
import functools
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float32

from mnist_jax import files
from mnist_jax.config import Data
from mnist_jax.data import Task, own
from mnist_jax.devices import settings
from mnist_jax.evaluation import log_softmax
from mnist_jax.runs import predictions
from mnist_jax.runs.folder import RunFolder

if TYPE_CHECKING:
    from mnist_jax.photos import Reading

# Seed 0 of configs/handwriting.py.
PACKAGED = Path(__file__).with_name("handwriting.safetensors")
# Its `unsure_below`, on the 6,000 validation images of its run.
PACKAGED_THRESHOLD = 0.7082
UNSURE_SHARE = 0.02
"""The share of the validation images whose probability is below the threshold."""


@dataclasses.dataclass(frozen=True, repr=False)
class Trained(abc.ABC):
    """The result of a finished run, which is a `Predictor`."""

    path: Path
    """The file that it was loaded from, in the run folder."""
    accuracy: float
    """On the images that `tested_on` names, in 0..1."""
    tested_on: str
    """ "test" or "val"."""
    results: dict[str, Any] | None
    """The contents of results.json; None if only a file of weights was loaded."""

    fitted_on_validation = False
    """Whether validation images had a part in fitting it, beyond choosing an epoch."""

    def __repr__(self) -> str:
        classes = ", ".join(self.classes[:3]) + ", ..." * (len(self.classes) > 3)
        return (
            f"<{self.name}, seed {self.seed}: {self.architecture} for "
            f"{len(self.classes)} classes ({classes}), {self.tested_on} accuracy "
            f"{self.accuracy:.4f}, from {self.path}>"
        )

    @property
    def name(self) -> str:
        """The name of its config."""
        return self._reported("config")

    @property
    def seed(self) -> int:
        """The seed of its config."""
        return self._reported("seed")

    @property
    def parameters_sha256(self) -> str:
        """The checksum of all fitted numbers, as in results.json."""
        return self._reported("parameters_sha256")

    def _reported(self, name: str) -> Any:
        return (self.results or {})[name]

    @property
    @abc.abstractmethod
    def architecture(self) -> str:
        """What computes the logits, in a few words."""

    @property
    @abc.abstractmethod
    def task(self) -> Task:
        """Its classes, and the shape of its images."""

    @property
    @abc.abstractmethod
    def data(self) -> Data:
        """The section `data` of its config."""

    @abc.abstractmethod
    def _logits(self, images: np.ndarray) -> Any:
        """Return the logits of images [n, height, width, channels] with n above 0."""

    @property
    def classes(self) -> tuple[str, ...]:
        """The class of each logit."""
        return self.task.classes

    def predict(self, images: Any) -> Float32[np.ndarray, "n classes"]:
        """Return the probability of each class for each image.

        Args:
            images: [n, height, width] or [n, height, width, channels], or a single
                image without the first axis; uint8 in 0..255 or floating-point in 0..1,
                bright digits on a dark background.

        Raises:
            ValueError: the images have another shape, type or range, or NaNs.
        """
        return np.exp(log_softmax(self.logits(images))).astype(np.float32)

    @settings.defaults()
    def logits(self, images: Any) -> Float32[np.ndarray, "n classes"]:
        """Return unnormalised log-probabilities; arguments as in `predict`."""
        images = _check_images(images, self.task.image_shape)
        if not len(images):
            return np.zeros((0, len(self.classes)), np.float32)
        return np.asarray(self._logits(images))

    def read(self, source: Any) -> "Reading":
        """Read the handwritten digits in a picture, such as a photograph.

        Args:
            source: a path, a file opened to read bytes, a Pillow image, or an array
                [height, width] or [height, width, 3 or 4], uint8 or floating-point in
                0..1; dark digits on light paper, or light ones on a dark ground.

        Raises:
            UserError: it is not an image, or there is no digit in it.
            OSError: the file cannot be read.
        """
        from mnist_jax import photos  # imported late: only photographs need SciPy

        return photos.read(self, self.threshold[0], source)

    @functools.cached_property
    def threshold(self) -> tuple[float, str]:
        """The probability below which a digit is unsure, and its origin.

        Without predictions.npz, the packaged network's threshold is used. Raises
        UserError if that file is damaged.
        """
        if self.path == PACKAGED:
            return PACKAGED_THRESHOLD, "its validation images"
        path = RunFolder(self.path.parent).predictions
        if path.exists():
            _, val = predictions.read(path)
            return unsure_below(val.logits[self.weights]), "its validation images"
        return PACKAGED_THRESHOLD, (
            f"those of the network in the package, since there is no {path}"
        )

    @property
    def weights(self) -> str:
        """The name of its logits in predictions.npz."""
        return predictions.ONLY


def unsure_below(logits: Float32[np.ndarray, "n classes"]) -> float:
    """Return the probability that `UNSURE_SHARE` of the predictions are below."""
    return float(np.quantile(np.exp(log_softmax(logits).max(axis=1)), UNSURE_SHARE))


def describe(run: Trained) -> str:
    """Return where a run is and how good it is, for a line of text."""
    where: Path | str = files.shown(run.path.parent)
    if run.path == PACKAGED:
        where = "the network in this package"
    images = f"the {run.tested_on} images of {run.data.source}"
    return f"{where}: {run.accuracy:.2%} right on {images}"


def found_here(config: Data) -> Data:
    """Return a run's data, in the usual place if its own is on another machine."""
    elsewhere = config.dir and not files.expand(config.dir).exists()
    if elsewhere and config.source not in own.READERS:
        return dataclasses.replace(config, dir=None)
    return config


def names(runs: Sequence[Trained]) -> list[str]:
    """Name runs by config and seed, and by their folders if these are equal."""
    names = [f"{each.name} (seed {each.seed})" for each in runs]
    return [
        f"{name} in {files.shown(each.path.parent)}" if names.count(name) > 1 else name
        for name, each in zip(names, runs, strict=True)
    ]


def _check_images(images: Any, shape: tuple[int, int, int]) -> np.ndarray:
    """Return images as [n, height, width, channels], uint8 or float32 in 0..1."""
    images = np.asarray(images)
    given = list(images.shape)
    if images.shape in (shape[:2], shape):
        images = images[None]
    if images.shape[1:] == shape[:2] and shape[2] == 1:
        images = images[..., None]
    if images.ndim != 4 or images.shape[1:] != shape:
        raise ValueError(
            f"images must be [n, {shape[0]}, {shape[1]}] or [n, "
            f"{', '.join(map(str, shape))}], got {given}"
        )
    if images.dtype == np.uint8:
        return images
    if not np.issubdtype(images.dtype, np.floating):
        raise ValueError(
            f"images must be uint8 in 0..255 or floating-point, got {images.dtype}"
        )
    low, high = images.min(initial=0), images.max(initial=0)
    if not (low >= 0 and high <= 1):  # false for NaN too
        raise ValueError(
            f"floating-point images must be in 0..1, got {low:g}..{high:g}; divide by "
            "255, or pass uint8"
        )
    return images.astype(np.float32)
