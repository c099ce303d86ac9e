"""Test labels of MNIST that people who were asked do not agree with."""

INDICES = (
    *(947, 1621, 1901, 2130, 2462, 2597, 2654, 3520, 3558),
    *(5937, 6651, 6783, 8527, 9679, 9729),
)
"""Rows of the official test set, counted from 0.

Northcutt, Athalye and Mueller showed test images whose labels a classifier doubted to
five people each. These are the ones whose label at most two of the five gave, by the
votes that the authors published (`mturk/mnist_mturk.json` of cleanlab/label-errors).

References:
    "Pervasive label errors in test sets destabilize machine learning benchmarks",
    NeurIPS Datasets and Benchmarks, 2021: https://arxiv.org/abs/2103.14749
"""
