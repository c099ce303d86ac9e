"""Settings of JAX that a program or a variable changes do not change results."""

import jax
import numpy as np
import pytest

import mnist_jax
from mnist_jax.training.keys import make_keys
from tests.conftest import of_three_steps, run_small
from tests.support.runs import outcome

HOSTILE = {
    "jax_default_prng_impl": "rbg",
    "jax_threefry_partitionable": False,
    "jax_random_seed_offset": 5,
    "jax_enable_x64": True,
    "jax_numpy_dtype_promotion": "strict",
    "jax_debug_nans": True,
    "jax_debug_infs": True,
    "jax_disable_jit": True,
}


@pytest.fixture
def hostile():
    before = {name: jax.config.values[name] for name in HOSTILE}
    for name, value in HOSTILE.items():
        jax.config.update(name, value)
    yield
    for name, value in before.items():
        jax.config.update(name, value)


@pytest.mark.parametrize("seed", [0, 7, 2**31, 2**32 - 1])
def test_the_streams_are_those_of_jax_s_own_keys(seed):
    expected = jax.random.fold_in(jax.random.key(seed), 0)
    assert make_keys(seed).init == expected


@pytest.mark.usefixtures("little_optimized", "hostile")
def test_a_run_is_the_same_whatever_the_settings(three_steps, small, tmp_path):
    folder = run_small(of_three_steps(), small, tmp_path / "run")
    assert outcome(folder) == outcome(three_steps)
    logits = mnist_jax.load_run(folder).logits(small.test.images)
    np.testing.assert_array_equal(logits, np.load(folder / "predictions.npz")["last"])
