"""The final test of a run: predictions.npz, weights.safetensors and results.json."""

import json
import time
from typing import Any

import numpy as np

from mnist_jax import data, evaluation, files, models, tree
from mnist_jax.config import Experiment, to_stored
from mnist_jax.runs import weights as run_weights
from mnist_jax.runs.folder import RunFolder
from mnist_jax.runs.journal import Journal
from mnist_jax.training.predict import Evaluate
from mnist_jax.training.step import Batch

Logits = dict[str, dict[str, np.ndarray]]


def test(
    journal: Journal, model: models.Model, dataset: data.Dataset, evaluate: Evaluate
) -> dict[str, Any]:
    """Look at the test set, once, and write what came of it.

    The last epoch's weights and the best epoch's are both evaluated; which of the two
    is the run's result was said by `config.test_weights` before.

    Args:
        journal: of a run that has ended. Without a folder, as in the processes that
            only help the first, nothing is written, nor returned.
        model: the network.
        dataset: its images.
        evaluate: of `make_evaluate`, for `model`.

    Returns:
        The contents of results.json.
    """
    begin = time.perf_counter()
    trained, config = journal.state, journal.config
    weights = {
        "last": (trained.params, trained.batch_stats),
        "best": (trained.best.params, trained.best.batch_stats),
    }
    # One evaluation is enough where these are the same.
    same = tree.digest(weights["last"]) == tree.digest(weights["best"])
    logits: Logits = {}
    for split, part in (("test", dataset.test), ("val", dataset.val)):
        batch = Batch.from_split(part)
        last = np.asarray(evaluate(*weights["last"], batch)[0])
        best = last if same else np.asarray(evaluate(*weights["best"], batch)[0])
        logits[split] = {"last": last, "best": best}
    if not journal.writes:
        return {}
    folder = journal.folder
    _write_predictions(folder, dataset, logits)
    scores = {
        split: {
            which: evaluation.evaluate(values, part.labels)
            for which, values in logits[split].items()
        }
        for split, part in (("test", dataset.test), ("val", dataset.val))
    }
    accuracy = scores["test"][config.test_weights]["accuracy"]
    reported = weights[config.test_weights]
    _write_weights(folder, config, model, reported, accuracy)
    record = journal.record
    epochs = [entry for entry in record.history if entry["split"] == "train"]
    results = {
        "config": config.name,
        "model": model.name,
        "data": dataset.name,
        "tested_on": config.data.test_on,
        "seed": config.seed,
        "parameters": tree.count_parameters(trained.params, trained.batch_stats),
        "epochs": record.epoch,
        "best_epoch": int(trained.best.epoch),
        "best_monitor": config.best.monitor,
        "test_weights": config.test_weights,
        "test_accuracy": accuracy,
        "train_seconds": record.feature_seconds
        + sum(entry["seconds"] for entry in epochs),
        "wall_seconds": record.seconds + time.perf_counter() - begin,
        "images_per_second": float(
            np.median([entry["images_per_second"] for entry in epochs])
        ),
        "parameters_sha256": tree.digest(reported),
        **scores,
    }
    journal.finish(results)
    return results


def _write_predictions(
    folder: RunFolder, dataset: data.Dataset, logits: Logits
) -> None:
    with files.atomic_writer(folder.predictions) as file:
        np.savez_compressed(
            file,
            labels=dataset.test.labels,
            last=logits["test"]["last"],
            best=logits["test"]["best"],
            val_labels=dataset.val.labels,
            val_last=logits["val"]["last"],
            val_best=logits["val"]["best"],
        )


def _write_weights(
    folder: RunFolder,
    config: Experiment,
    model: models.Model,
    reported: tuple[Any, Any],
    accuracy: float,
) -> None:
    metadata = {
        run_weights.NETWORK: model.name,
        "config": json.dumps(to_stored(config)),
        "classes": "0 1 2 3 4 5 6 7 8 9",
        "weights": config.test_weights,
        "tested_on": config.data.test_on,
        "accuracy": repr(accuracy),
    }
    run_weights.write(folder.weights, run_weights.named(*reported), metadata)
