"""Checksums of trees."""

import jax
import jax.numpy as jnp
import numpy as np

from mnist_jax import tree


def test_digest_depends_on_every_part_of_a_tree():
    numbers = {"a": np.zeros((2, 3), np.float32), "b": np.ones(2, np.int32)}
    digests = [
        tree.digest(other)
        for other in (
            numbers,
            {"a": numbers["a"], "c": numbers["b"]},
            {"a": numbers["a"].T, "b": numbers["b"]},
            {"a": numbers["a"].astype(np.float16), "b": numbers["b"]},
            {"a": -numbers["a"], "b": numbers["b"]},  # minus zero
            {"a": numbers["a"], "b": numbers["b"] * 2},
        )
    ]
    assert len(set(digests)) == len(digests)
    as_jax = jax.tree.map(jnp.asarray, numbers)
    assert tree.digest(as_jax) == digests[0]


def test_layers_are_the_modules_that_have_arrays():
    assert tree.layers({"a": {"scale": 1, "b": {"kernel": 2}}}) == {
        "a": {"scale": 1},
        "a/b": {"kernel": 2},
    }
