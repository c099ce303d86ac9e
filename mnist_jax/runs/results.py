"""The final test of a run: predictions.npz, weights.safetensors and results.json."""

import json
import time

import numpy as np

from mnist_jax import data, evaluation, models, tree
from mnist_jax.config import to_json
from mnist_jax.runs import predictions
from mnist_jax.runs import weights as run_weights
from mnist_jax.runs.folder import NUMBER, check_fields
from mnist_jax.runs.predictions import Predictions
from mnist_jax.runs.run import Run
from mnist_jax.training.evaluator import Evaluator
from mnist_jax.tree import Tree


def test(
    run: Run, model: models.Model, dataset: data.Dataset, evaluator: Evaluator
) -> None:
    """Evaluate a trained run on the test set, once, and write the result.

    Both the weights of the last epoch and those of the best are evaluated. The config's
    `test_weights`, chosen before, says which of them are the run's result.
    """
    begin = time.perf_counter()
    trained, config = run.state, run.config
    weights = {
        "last": (trained.params, trained.batch_stats),
        "best": (trained.best.params, trained.best.batch_stats),
    }
    tested = _logits(weights, dataset.test, evaluator)
    val = _logits(weights, dataset.val, evaluator)
    if not run.writes:
        return
    predictions.write(run.folder.predictions, tested, val)
    scores = {
        split: {
            which: evaluation.evaluate(logits, part.labels, model.task.classes)
            for which, logits in part.logits.items()
        }
        for split, part in (("test", tested), ("val", val))
    }
    accuracy = scores["test"][config.test_weights]["accuracy"]
    reported = weights[config.test_weights]
    metadata = {
        run_weights.NETWORK: model.name,
        "config": json.dumps(to_json(config)),
        "classes": json.dumps(model.task.classes),
        "image_shape": json.dumps(model.task.image_shape),
        "weights": config.test_weights,
        "tested_on": config.data.test_on,
        "accuracy": repr(accuracy),
    }
    run_weights.write(run.folder.weights, run_weights.named(*reported), metadata)
    epochs = [each for each in run.folder.read_metrics() if each["split"] == "train"]
    for each in epochs:
        check_fields(each, {NUMBER: "seconds images_per_second"}, run.folder.metrics)
    run.finish(
        {
            "kind": "network",
            "config": config.name,
            "model": model.name,
            "data": dataset.name,
            "classes": list(model.task.classes),
            "tested_on": config.data.test_on,
            "test_images_sha256": tested.images_sha256,
            "seed": config.seed,
            "seeds_together": run.seeds,
            "parameters": tree.count_parameters(trained.params, trained.batch_stats),
            "epochs": run.epoch,
            "best_epoch": int(trained.best.epoch),
            "best_monitor": config.best.monitor,
            "test_weights": config.test_weights,
            "test_accuracy": accuracy,
            "train_seconds": run.feature_seconds
            + sum(each["seconds"] for each in epochs),
            "wall_seconds": run.seconds + time.perf_counter() - begin,
            "images_per_second": float(
                np.median([each["images_per_second"] for each in epochs])
            ),
            "parameters_sha256": tree.digest(reported),
            **scores,
        }
    )


def _logits(
    weights: dict[str, tuple[Tree, Tree]], split: data.Split, evaluator: Evaluator
) -> Predictions:
    """Compute the logits of a split by both weights."""
    logits = {
        which: np.asarray(evaluator.logits(*each, split.images))
        for which, each in weights.items()
    }
    return Predictions(split.labels, logits, data.images_sha256(split.images))
