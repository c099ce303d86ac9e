"""From logits and labels to figures, and to conclusions from them.

Importing this package costs no more than NumPy.
"""
# ruff: noqa: F401 - the names are imported for other modules

from mnist_jax.evaluation.scores import (
    Mistakes,
    evaluate,
    log_softmax,
    most_confident_mistakes,
    wilson_interval,
)
