"""What `trace` reads: the network's operations on images, and nothing else."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mnist_jax.export import graph, network
from mnist_jax.export.graph import Constant, UnsupportedError


def trace_function(function):
    return graph.trace(lambda _, images: function(images / 255.0), {}, (4, 6))


def test_parameters_keep_their_names_and_batch_norm_is_two_constants(make_run):
    run = make_run("fast_cnn")
    traced = graph.trace(*network.make_logits(run), network.INPUT_SHAPE)
    constants = [
        x for step in traced.operations for x in step.inputs if isinstance(x, Constant)
    ]
    kernels = {x.name: x.array for x in constants if "kernel" in x.name}
    assert kernels.keys() == {
        *(f"conv{layer}/kernel" for layer in (1, 2, 3)),
        "logits/kernel",
    }
    np.testing.assert_array_equal(
        kernels["conv1/kernel"], run.params["conv1"]["kernel"]
    )
    assert "rsqrt" not in {step.name for step in traced.operations}
    scale, stats = run.params["norm1"]["scale"], run.batch_stats["norm1"]
    factor = scale / np.sqrt(stats["var"] + 1e-3)
    assert any(
        x.array.shape == (1, 1, 1, 8) and np.allclose(x.array[0, 0, 0], factor)
        for x in constants
    )
    assert traced.input.shape == (None, 28, 28)
    assert traced.output.shape == (None, 10)


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda x: jax.lax.fori_loop(0, 3, lambda _, y: y * x, x), "scan"),
        (lambda x: jax.lax.top_k(x, 2)[0], "top_k"),
        (
            lambda x: jnp.broadcast_to(jnp.arange(6.0), x.shape).reshape(-1, 24),
            "reshape .* of a repeated constant",
        ),
        (lambda x: jnp.ones((4, 6)), "ignores images"),
    ],
)
def test_what_is_no_list_of_operations_is_refused(function, message):
    with pytest.raises(UnsupportedError, match=message):
        trace_function(function)
