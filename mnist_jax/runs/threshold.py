"""The probability below which what a network says counts as unsure."""

from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import special

from mnist_jax.runs import predictions
from mnist_jax.runs.folder import RunFolder

if TYPE_CHECKING:
    from mnist_jax.runs.load import Run

FALSE_ALARMS = 0.02
"""The share of the validation images that count as unsure: it sets the threshold."""

# Of the network in this package, on the 6,000 validation images of its run.
PACKAGED_THRESHOLD = 0.8792


def find_threshold(run: "Run") -> tuple[float, str]:
    """Return the probability below which a digit is unsure, and what it is taken from.

    `FALSE_ALARMS` of the run's validation images are below it: their logits are in
    predictions.npz. If they are not, the packaged network's threshold is taken.

    Raises:
        UserError: predictions.npz is damaged.
    """
    from mnist_jax.runs.load import PACKAGED

    if run.path == PACKAGED:
        return PACKAGED_THRESHOLD, "its validation images"
    path = RunFolder(run.path.parent).predictions
    val = predictions.read(path).val if path.exists() else None
    if val is None:
        return PACKAGED_THRESHOLD, (
            "those of the network in the package, since there are no validation logits "
            f"in {path}"
        )
    return quantile(val.logits[run.config.test_weights]), "its validation images"


def quantile(logits: Any) -> float:
    """Return the highest probability that `FALSE_ALARMS` of the images are below.

    Args:
        logits: of validation images, [n, classes].
    """
    highest = special.softmax(np.asarray(logits), axis=-1).max(axis=-1)
    return float(np.quantile(highest, FALSE_ALARMS))
