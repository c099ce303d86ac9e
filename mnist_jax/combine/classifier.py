"""Classical classifiers of a network's features, or of pixels, in run folders.

scikit-learn fits them. classifier.skops is the fitted estimator, without pickle, and
classifier.json has its `inputs` ("features" or "pixels"), the `temperature` of its
scores, and the folder (`network`) and checksum (`network_sha256`) of the network, whose
classes and images are also those of the classifier.
"""

import dataclasses
import functools
import hashlib
import io
import os
import time
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import skops.io
from jaxtyping import Float32, Integer
from sklearn.base import clone
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.model_selection import ParameterGrid
from sklearn.neighbors import KNeighborsClassifier
from sklearn.svm import SVC
from sklearn.utils.parallel import Parallel, delayed
from threadpoolctl import threadpool_limits

from mnist_jax import data, files
from mnist_jax.combine import features, outcome
from mnist_jax.config import Data, to_json
from mnist_jax.errors import UserError
from mnist_jax.evaluation import calibration
from mnist_jax.report import record
from mnist_jax.report.compare.groups import experiment
from mnist_jax.report.render import count
from mnist_jax.runs import load as networks
from mnist_jax.runs.folder import NUMBER, RunFolder, damaged, unreadable
from mnist_jax.runs.load import Network
from mnist_jax.runs.trained import Trained

__all__ = ["FAMILIES", "Classifier", "create", "fit", "load"]

FAMILIES: dict[str, tuple[Any, dict[str, list[Any]]]] = {
    "forest": (RandomForestClassifier(200), {"min_samples_leaf": [1, 3]}),
    "svm": (SVC(cache_size=500, break_ties=True), {"C": [1, 10]}),
    "knn": (
        KNeighborsClassifier(weights="distance", algorithm="brute"),
        {"n_neighbors": [1, 3, 5, 10]},
    ),
    "boosting": (
        HistGradientBoostingClassifier(max_iter=50, early_stopping=False),
        {"learning_rate": [0.1, 0.3]},
    ),
}
"""Classifiers and the hyperparameters to try, by the names of flags and run folders."""

Rows = tuple[Float32[np.ndarray, "n d"], Integer[np.ndarray, " n"]]
"""Features or pixels, and their labels."""

_FILE, _SKOPS = "classifier.json", "classifier.skops"
# skops trusts scikit-learn's other types, but not these, since scikit-learn follows the
# indices in them without checking them: `_check_nodes` does that.
_TREES = [
    "sklearn.tree._tree.Tree",
    "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor",
]
_LEAST = 1e-4  # of probabilities, which may be 0, so that their logarithms are finite


@dataclasses.dataclass(frozen=True, repr=False)
class Classifier(Trained):
    """A fitted classifier of images."""

    network: Network
    inputs: str
    """What it classifies: "features" of the network, or "pixels"."""
    estimator: Any
    """Of scikit-learn."""
    temperature: float
    """The scores of the estimator divided by it are logits."""

    @property
    def architecture(self) -> str:
        """Its family and inputs."""
        return f"{self._reported('model')} of {self.inputs}"

    @property
    def task(self) -> data.Task:
        """The task of the network."""
        return self.network.task

    @property
    def data(self) -> Data:
        """The data of the network."""
        return self.network.data

    def _logits(self, images: np.ndarray) -> np.ndarray:
        rows, classes = self._extract(images), len(self.classes)
        return _logits(self.estimator, rows, classes, self.temperature)

    @functools.cached_property
    def _extract(self) -> features.Extractor:
        return features.make_extractor(self.network, self.inputs)


def fit(
    family: str, train: Rows, val: Rows, *, classes: int, seed: int
) -> tuple[Any, float, str]:
    """Fit a classifier with a few hyperparameters, and return the best of them.

    Args:
        family: a key of `FAMILIES`.
        train: the rows to fit it to.
        val: the rows whose accuracy chooses the hyperparameters, and whose loss chooses
            the temperature.
        classes: their number; some may have no rows.
        seed: of forests and boosting.

    Returns:
        The estimator, the temperature, and the hyperparameters as text.
    """

    def attempt(name: str, estimator: Any) -> tuple[float, Any, float, str]:
        with threadpool_limits(1):  # as many candidates at once as there are cores
            logits = _logits(estimator.fit(*train), val[0], classes)
        accuracy = float((logits.argmax(axis=1) == val[1]).mean())
        return accuracy, estimator, calibration.temperature(logits, val[1]) or 1.0, name

    candidates = _candidates(family, len(train[1]), seed)
    threads = Parallel(n_jobs=-1, prefer="threads")
    tried: Any = threads(delayed(attempt)(*each) for each in candidates.items())
    return max(tried, key=lambda attempt: attempt[0])[1:]  # the first of equals


def _candidates(family: str, rows: int, seed: int) -> dict[str, Any]:
    """Return estimators by their hyperparameters.

    Neither pixels nor the features of a layer need to be brought to one scale.
    """
    base, grid = FAMILIES[family]
    found: dict[str, Any] = {}
    for settings in ParameterGrid(grid):
        if settings.get("n_neighbors", 0) <= rows:
            estimator = clone(base).set_params(**settings)
            if hasattr(estimator, "random_state"):
                estimator.set_params(random_state=seed)
            text = ", ".join(f"{name}={value}" for name, value in settings.items())
            found[text] = estimator
    return found


def _logits(
    estimator: Any,
    rows: Float32[np.ndarray, "n d"],
    classes: int,
    temperature: float = 1.0,
) -> Float32[np.ndarray, "n classes"]:
    """Return finite logits, the lowest for classes that it was not fitted to."""
    if hasattr(estimator, "predict_proba"):
        found = np.log(np.maximum(estimator.predict_proba(rows), _LEAST))
    else:
        found = estimator.decision_function(rows)
        if found.ndim == 1:  # of the second of two classes
            found = np.stack([-found, found], axis=1)
    scores = np.repeat(found.min(axis=1, keepdims=True) - 1, classes, axis=1)
    scores[:, estimator.classes_] = found
    return (scores / temperature).astype(np.float32)


def create(
    folder: Path,
    family: str,
    inputs: str,
    network: Network,
    dataset: data.Dataset,
    rows: Sequence[Rows],
) -> tuple[str, np.ndarray, np.ndarray]:
    """Fit a classifier, test it once, and write its run folder.

    Args:
        folder: to write; a classifier in it is replaced.
        family: a key of `FAMILIES`.
        inputs: "features" or "pixels".
        network: a finished run.
        dataset: its data, with the training images to fit to.
        rows: of the training, validation and test images.

    Returns:
        The hyperparameters, and the logits of the test and of the validation images.

    Raises:
        OSError: a file cannot be written.
    """
    begin, classes = time.perf_counter(), len(network.classes)
    sizes = {"classes": classes, "seed": network.seed}
    estimator, temperature, chosen = fit(family, *rows[:2], **sizes)
    seconds = time.perf_counter() - begin
    val, tested = (
        _logits(estimator, part, classes, temperature) for part, _ in rows[1:]
    )
    content = skops.io.dumps(estimator, compression=zipfile.ZIP_DEFLATED)
    config = {
        "name": f"{family} on {network.name if inputs == 'features' else inputs}",
        "seed": network.seed,
        "data": to_json(network.data),
        "inputs": inputs,
        "images": len(dataset.train),
    }
    if inputs == "features":
        config["network"] = experiment(record.read(network.path.parent))
    results = outcome.results(
        dataset,
        tested,
        val,
        kind="classifier",
        config=config["name"],
        model=family,
        tested_on=network.tested_on,
        seed=network.seed,
        parameters=_count(content),
        parameters_sha256=hashlib.sha256(content).hexdigest(),
        train_seconds=seconds,
    )
    folder.mkdir(parents=True, exist_ok=True)
    RunFolder(folder).results.unlink(missing_ok=True)
    with files.atomic_writer(folder / _SKOPS) as file:
        file.write(content)
    about = {
        "inputs": inputs,
        "temperature": temperature,
        "network": os.path.relpath(network.path.parent.resolve(), folder.resolve()),
        "network_sha256": network.parameters_sha256,
    }
    files.write_json(folder / _FILE, about)
    number = count(len(dataset.train), "training image")
    text = f"Fitted to the {inputs} of {number}; {chosen}, as validation images choose."
    sections = {"The classifier": [text]}
    outcome.write(
        folder, results, dataset, tested, val, config=config, sections=sections
    )
    return chosen, tested, val


def _count(content: bytes) -> int:
    """Return how many numbers the arrays in a skops file have."""
    with zipfile.ZipFile(io.BytesIO(content)) as file:
        arrays = [name for name in file.namelist() if name.endswith(".npy")]
        return sum(np.load(file.open(name)).size for name in arrays)


def load(path: Path | str) -> Classifier:
    """Load the classifier of a run folder.

    Raises:
        UserError: a file is missing or damaged, classifier.skops has types that are not
            scikit-learn's, or the network is not where it was, or another one.
    """
    folder, results, about = outcome.read(
        path,
        _FILE,
        {str: "inputs network network_sha256", NUMBER: "temperature"},
    )
    file, where = folder.path / _FILE, folder.path / about["network"]
    network = outcome.load_part(networks.load, where, about["network_sha256"], file)
    if about["inputs"] not in features.INPUTS or not about["temperature"] > 0:
        raise damaged(file, "its inputs or its temperature are not possible")
    return Classifier(
        path=folder.path / _SKOPS,
        accuracy=results["test_accuracy"],
        tested_on=results["tested_on"],
        results=results,
        network=network,
        inputs=about["inputs"],
        estimator=_read(folder.path / _SKOPS, results["parameters_sha256"]),
        temperature=about["temperature"],
    )


def _read(path: Path, sha256: str) -> Any:
    """Return the estimator in a skops file, or raise UserError."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise unreadable(path, error) from error
    if hashlib.sha256(content).hexdigest() != sha256:
        raise damaged(path, "it does not match its checksum")
    try:
        foreign = {*skops.io.get_untrusted_types(data=content)} - {*_TREES}
        estimator = None if foreign else skops.io.loads(content, trusted=_TREES)
        _check_nodes(estimator)
    except Exception as error:  # zipfile, NumPy and skops raise a dozen kinds
        raise damaged(path, repr(error)) from error
    if foreign:
        raise UserError(
            f"{path} is not loaded: it has types that are not scikit-learn's "
            f"({', '.join(sorted(foreign))})."
        )
    return estimator


def _check_nodes(estimator: Any) -> None:
    """Raise ValueError unless every tree leads from its root down to leaves."""
    forest = [each.tree_ for each in getattr(estimator, "estimators_", [])]
    boosted = [each.nodes for each in sum(getattr(estimator, "_predictors", []), [])]
    for left, right, feature, is_leaf in [
        *(
            (t.children_left, t.children_right, t.feature, t.children_left == -1)
            for t in forest
        ),
        *(
            (n["left"], n["right"], n["feature_idx"], n["is_leaf"] == 1)
            for n in boosted
        ),
    ]:
        inner = np.flatnonzero(~is_leaf)
        children = np.stack([left[inner], right[inner]])
        known = (0 <= feature[inner]) & (feature[inner] < estimator.n_features_in_)
        if not (known & (inner < children) & (children < len(left))).all():
            raise ValueError("a tree has indices out of range")
