"""From logits and labels to figures, and to conclusions from them.

Importing this package costs no more than NumPy.
"""

from mnist_jax.evaluation.scores import (
    Labels,
    Logits,
    Mistakes,
    evaluate,
    log_softmax,
    most_confident_mistakes,
    wilson_interval,
)

__all__ = [
    "Labels",
    "Logits",
    "Mistakes",
    "evaluate",
    "log_softmax",
    "most_confident_mistakes",
    "wilson_interval",
]
