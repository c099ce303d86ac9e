"""Load the trained network that results.json reports."""

import dataclasses
import functools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import numpy as np
from jaxtyping import Float32

from mnist_jax import models, tree
from mnist_jax.config import Experiment, from_stored
from mnist_jax.errors import UserError
from mnist_jax.evaluation import log_softmax
from mnist_jax.models import operations
from mnist_jax.runs import predictions, weights
from mnist_jax.runs.folder import RunFolder, read_json
from mnist_jax.runs.weights import WeightsError
from mnist_jax.training.evaluator import Evaluator
from mnist_jax.tree import Tree

if TYPE_CHECKING:
    from mnist_jax.photos import Reading

# Seed 0 of configs/lenet5.py:tuned, a copy of the one in results/.
PACKAGED = Path(__file__).with_name("lenet5.safetensors")
# Its `unsure_below`, on the 6,000 validation images of its run.
PACKAGED_THRESHOLD = 0.8792
UNSURE_SHARE = 0.02
"""The share of the validation images whose probability is below the threshold."""


@dataclasses.dataclass(frozen=True, repr=False)
class Network:
    """A trained network, which is a `Predictor`, and its experiment."""

    path: Path
    """The file of weights."""
    config: Experiment
    model: models.Model
    params: Tree
    batch_stats: Tree
    """BatchNorm's statistics; empty without BatchNorm."""
    accuracy: float
    """On the images that `tested_on` names, in 0..1."""
    tested_on: str
    """ "test" or "val"."""
    results: dict[str, Any] | None
    """The contents of results.json; None if only a file of weights was loaded."""

    def __repr__(self) -> str:
        classes = ", ".join(self.classes[:3]) + ", ..." * (len(self.classes) > 3)
        return (
            f"<{self.config.name}, seed {self.config.seed}: {self.model.name} for "
            f"{len(self.classes)} classes ({classes}), {self.tested_on} accuracy "
            f"{self.accuracy:.4f}, from {self.path}>"
        )

    @property
    def classes(self) -> tuple[str, ...]:
        """The class of each logit."""
        return self.model.task.classes

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

    def logits(self, images: Any) -> Float32[np.ndarray, "n classes"]:
        """Return unnormalised log-probabilities; arguments as in `predict`."""
        images = _check_images(images, self.model.task.image_shape)
        if not len(images):
            return np.zeros((0, len(self.classes)), np.float32)
        weights = self.params, self.batch_stats
        return np.asarray(self._evaluator.logits(*weights, images))

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
            logits = val.logits[self.config.test_weights]
            return unsure_below(logits), "its validation images"
        return PACKAGED_THRESHOLD, (
            f"those of the network in the package, since there is no {path}"
        )

    @functools.cached_property
    def _evaluator(self) -> Evaluator:
        return Evaluator.of_model(self.model, self.config)


def unsure_below(logits: Float32[np.ndarray, "n classes"]) -> float:
    """Return the probability that `UNSURE_SHARE` of the predictions are below."""
    return float(np.quantile(np.exp(log_softmax(logits).max(axis=1)), UNSURE_SHARE))


def describe(network: Network) -> str:
    """Return where a network is from and how good it is, for a line of text."""
    folder, here = network.path.parent, Path.cwd()
    where = folder.relative_to(here) if folder.is_relative_to(here) else folder
    if network.path == PACKAGED:
        where = "the LeNet-5 in this package"
    return f"{where}, right on {network.accuracy:.2%} of its {network.tested_on} images"


def names(networks: Sequence[Network]) -> list[str]:
    """Name networks by config and seed, and by their folders if these are equal."""
    names = [f"{each.config.name} (seed {each.config.seed})" for each in networks]
    return [
        f"{name} in {each.path.parent}" if names.count(name) > 1 else name
        for name, each in zip(names, networks, strict=True)
    ]


def load(path: Path | str | None = None) -> Network:
    """Load a trained network from a run folder or a file of weights.

    On the machine of the run, its logits equal those in predictions.npz bit for bit.

    Args:
        path: a run folder, published or not, or a weights.safetensors that a run wrote.
            Default: a LeNet-5 that comes with this package.

    Raises:
        UserError: the run is not finished, or its weights are missing, damaged or those
            of another network.
    """
    path = PACKAGED if path is None else Path(path).expanduser().absolute()
    folder = RunFolder(path)
    results, environment = None, {}
    if path.is_dir():
        results = _check_finished(folder)
        environment = read_json(folder.environment)
        path = folder.weights
    tensors, metadata = weights.read(path)
    if not metadata.keys() >= {weights.CONFIG, "accuracy"}:
        raise WeightsError(
            f"{path} does not say which experiment it is from: no finished run wrote "
            "it. To start a run from it, use --config.model.pretrained."
        )
    try:
        config = from_stored(json.loads(metadata["config"]), name="its metadata")
        accuracy, tested_on = float(metadata["accuracy"]), metadata["tested_on"]
        network = dataclasses.replace(config.model, name=metadata[weights.NETWORK])
        model = models.create(network, weights.task_of(metadata), dtype=config.dtype)
    except (KeyError, TypeError, ValueError) as error:
        raise WeightsError(f"{path} is damaged: {error!r} in its metadata.") from error
    except UserError as error:
        raise WeightsError(f"{path} cannot be used here: {error}") from error
    known = weights.shapes(model)
    weights.check(tensors, wanted=known, known=known, path=path)
    params, batch_stats = (
        jax.tree_util.tree_map_with_path(lambda at, _: tensors[tree.name_of(at)], part)
        for part in model.shapes
    )
    if results and results["parameters_sha256"] != tree.digest((params, batch_stats)):
        raise WeightsError(
            f"{path} does not have the weights that {folder.results} reports."
        )
    used_onednn = str(environment.get("convolutions", "oneDNN")).startswith("oneDNN")
    choice = operations.choose("auto" if used_onednn else "xla", dtype=config.dtype)
    return Network(
        path=path,
        config=config,
        model=dataclasses.replace(model, convolutions=choice.form),
        params=params,
        batch_stats=batch_stats,
        accuracy=accuracy,
        tested_on=tested_on,
        results=results,
    )


def _check_finished(folder: RunFolder) -> dict[str, Any]:
    """Return results.json, or raise WeightsError if the run is not complete."""
    if not folder.config.exists():
        raise WeightsError(folder.not_a_run())
    results = folder.read_results()
    if results is None:
        raise WeightsError(
            f"{folder.path} is not finished. Repeat its command to resume it."
        )
    if not folder.weights.exists():
        raise WeightsError(
            f"{folder.path} has no {folder.weights.name}: an older version made it, or "
            f"it was published without. {folder.environment.name} has the command that "
            "trains the network again."
        )
    return results


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
