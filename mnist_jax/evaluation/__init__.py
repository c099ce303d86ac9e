"""From logits and labels to figures, and to what may be concluded from them.

`scores` has what every run reports; `calibration`, `robustness` and `augmented` say how
far a network can be trusted, `significance` whether two of them differ. Importing this
package costs no more than NumPy.
"""

from mnist_jax.evaluation.scores import (
    CLASSES,
    Mistakes,
    evaluate,
    log_softmax,
    most_confident_mistakes,
    wilson_interval,
)

__all__ = [
    "CLASSES",
    "Mistakes",
    "evaluate",
    "log_softmax",
    "most_confident_mistakes",
    "wilson_interval",
]
