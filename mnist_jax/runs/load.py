"""Load the trained network that results.json reports."""

import dataclasses
import functools
import json
from pathlib import Path
from typing import Any

import jax
import numpy as np

from mnist_jax import files, models, tree
from mnist_jax.config import Data, Experiment, from_stored
from mnist_jax.data import Task
from mnist_jax.errors import UserError
from mnist_jax.models import operations
from mnist_jax.runs import weights
from mnist_jax.runs.folder import RunFolder, read_json
from mnist_jax.runs.trained import PACKAGED, Trained
from mnist_jax.runs.weights import WeightsError
from mnist_jax.training.evaluator import Evaluator
from mnist_jax.tree import Tree


@dataclasses.dataclass(frozen=True, repr=False)
class Network(Trained):
    """A trained network and its experiment."""

    config: Experiment
    model: models.Model
    params: Tree
    batch_stats: Tree
    """BatchNorm's statistics; empty without BatchNorm."""

    @property
    def name(self) -> str:
        """The name of its config."""
        return self.config.name

    @property
    def seed(self) -> int:
        """The seed of its config."""
        return self.config.seed

    @property
    def architecture(self) -> str:
        """Its name in the registry."""
        return self.model.name

    @property
    def task(self) -> Task:
        """Its classes, and the shape of its images."""
        return self.model.task

    @property
    def data(self) -> Data:
        """The section `data` of its config."""
        return self.config.data

    @property
    def weights(self) -> str:
        """The weights that the run reports: "last" or "best"."""
        return self.config.test_weights

    @property
    def parameters_sha256(self) -> str:
        """The checksum of its parameters and statistics."""
        return tree.digest((self.params, self.batch_stats))

    def _logits(self, images: np.ndarray) -> Any:
        return self._evaluator.logits(self.params, self.batch_stats, images)

    @functools.cached_property
    def _evaluator(self) -> Evaluator:
        return Evaluator.of_model(self.model, self.config)


def load(path: Path | str | None = None) -> Network:
    """Load a trained network from a run folder or a file of weights.

    On the machine of the run, its logits equal those in predictions.npz bit for bit.

    Args:
        path: a run folder, published or not, or a weights.safetensors that a run wrote.
            Default: the one that comes with this package.

    Raises:
        UserError: the run is not finished, or its weights are missing, damaged or those
            of another network.
    """
    path = PACKAGED if path is None else files.expand(path).absolute()
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
        if not 0 <= accuracy <= 1 or tested_on not in ("test", "val"):
            raise ValueError(f"accuracy is {accuracy}, tested_on {tested_on!r}")
        network = dataclasses.replace(config.model, name=metadata[weights.NETWORK])
        model = models.create(network, weights.task_of(metadata), dtype=config.dtype)
    except weights.DAMAGE as error:
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
            f"{folder.path} has no {folder.weights.name}: it was published without. "
            f"{folder.environment.name} has the command that trains the network again."
        )
    return results
