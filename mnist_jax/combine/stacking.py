"""From the logits of several predictors to those of their ensemble."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float32, Integer

from mnist_jax.errors import UserError

BY = {
    "probabilities": "mean probability",
    "logits": "mean logits",
    "vote": "majority vote",
    "stacking": "logistic regression on the logits",
}
"""How predictors are combined. The mean probability breaks the ties of a vote."""

FOLDS = 5
_COSTS = tuple(10.0**power for power in range(-3, 2))  # candidates for C
_TINY = float(np.finfo(np.float32).tiny)  # has a finite logarithm

Stacker = Mapping[str, np.ndarray]
"""The fitted "kernel" [members * classes, classes] and "bias" [classes], if any."""


def combine(logits: Sequence[Any], by: str, stacker: Stacker, xp: Any = np) -> Any:
    """Return the logits of an ensemble.

    Args:
        logits: of each member, float32 [n, classes]. So is the result.
        by: a key of `BY`.
        stacker: from `fit`, for "stacking".
        xp: NumPy, or `jax.numpy` within a function to be traced.
    """
    if by == "stacking":
        joined = xp.concatenate(logits, axis=-1)
        found = joined @ stacker["kernel"] + stacker["bias"][None]
        return found.astype(xp.float32)
    stacked = xp.concatenate([each[None] for each in logits])
    if by == "logits":
        return stacked.mean(axis=0)
    unnormalised = xp.exp(stacked - stacked.max(axis=-1, keepdims=True))
    each = unnormalised / unnormalised.sum(axis=-1, keepdims=True)
    mean = each.mean(axis=0)
    if by == "vote":
        classes = xp.arange(mean.shape[-1])[None, None]
        votes = (each.argmax(axis=-1)[..., None] == classes).sum(axis=0)
        mean = (votes + mean) / (len(logits) + 1)
    return xp.log(xp.maximum(mean, _TINY)).astype(xp.float32)


def fit(
    logits: Sequence[Float32[np.ndarray, "n classes"]],
    labels: Integer[np.ndarray, " n"],
) -> tuple[Stacker, Float32[np.ndarray, "n classes"], float]:
    """Fit a logistic regression on the logits of all members.

    Its hyperparameter C has the lowest cross-entropy over `FOLDS` folds.

    Returns:
        The weights; logits of the same images, each computed by a regression that was
        fitted without its fold; and C.

    Raises:
        UserError: a class has fewer than `FOLDS` images.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GridSearchCV
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    classes = logits[0].shape[1]
    if (fewest := np.bincount(labels, minlength=classes).min()) < FOLDS:
        raise UserError(
            f"--by=stacking needs {FOLDS} validation images of each class, for as many "
            f"folds, and there are {fewest} of one. Use --by=probabilities."
        )
    joined = np.concatenate(logits, axis=-1).astype(np.float64)
    regression = LogisticRegression(max_iter=2000)
    costs = {"logisticregression__C": _COSTS}
    options: dict[str, Any] = {"cv": FOLDS, "scoring": "neg_log_loss"}
    search = GridSearchCV(make_pipeline(StandardScaler(), regression), costs, **options)
    best = search.fit(joined, labels).best_estimator_
    scaler, fitted = best
    kernel = fitted.coef_.T / scaler.scale_[:, None]
    bias = fitted.intercept_ - scaler.mean_ @ kernel
    if classes == 2:  # scikit-learn then has one logit, of the second class
        kernel, bias = np.pad(kernel, ((0, 0), (1, 0))), np.pad(bias, (1, 0))
    held = _held_out(best, joined, labels)
    return {"kernel": kernel, "bias": bias}, held, float(fitted.C)


def boosted(
    logits: Sequence[Float32[np.ndarray, "n classes"]],
    labels: Integer[np.ndarray, " n"],
) -> Float32[np.ndarray, "n classes"]:
    """Return the held-out logits of gradient boosting, for comparison with `fit`."""
    from sklearn.ensemble import HistGradientBoostingClassifier
    from threadpoolctl import threadpool_limits

    trees = HistGradientBoostingClassifier(max_iter=50, random_state=0)
    # Beside other programs, several threads spend an hour waiting for each other.
    with threadpool_limits(1):
        return _held_out(trees, np.concatenate(logits, axis=-1), labels)


def _held_out(estimator: Any, rows: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return logits of rows, each computed by an estimator fitted without its fold."""
    from sklearn.model_selection import cross_val_predict

    found = cross_val_predict(estimator, rows, labels, cv=FOLDS, method="predict_proba")
    return np.log(np.maximum(found, _TINY)).astype(np.float32)
