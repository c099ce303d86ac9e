"""StableHLO: one program for every platform, with a run's own probabilities."""

import jax.export
import numpy as np
import pytest

pytest.importorskip("flatbuffers", reason="flatbuffers is not installed")

from mnist_jax.export import stablehlo


@pytest.mark.parametrize("name", ["lenet5", "fast_cnn"])
def test_what_is_read_back_predicts_as_the_run(name, make_run, images):
    run = make_run(name)
    read = jax.export.deserialize(bytearray(stablehlo.to_bytes(run)))
    assert read.platforms == ("cpu", "cuda", "tpu")
    for count in (1, 20):
        found = read.call(images[:count])
        expected = run.predict(images[:count])
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)
