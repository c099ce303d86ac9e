"""Several devices: the same training as with one, each of them with its share."""

import logging
import os
import pickle
from typing import NamedTuple

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mnist_jax.devices import parallel
from mnist_jax.errors import UserError
from tests.conftest import LITTLE_OPTIMIZED, assert_trees_equal
from tests.support.commands import run
from tests.support.training_parts import assert_close


@pytest.fixture(scope="module")
def results(tmp_path_factory, command_env):
    """What `several_devices` finds, in a process with eight of them."""
    path = tmp_path_factory.mktemp("parallel") / "results"
    flags = (
        f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=8"
    )
    env = command_env | LITTLE_OPTIMIZED | {"XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"}
    ended = run("tests.support.several_devices", str(path), env=env)
    assert ended.returncode == 0, ended.stderr
    with path.open("rb") as file:
        return pickle.load(file)


@pytest.mark.parametrize("way", ["jit", "pmap", "onednn"])
def test_many_devices_train_as_one_does(results, way):
    """Dropout, augmentation, BatchNorm, moving average and monitors with them."""
    if way not in results:
        pytest.skip("oneDNN cannot be used here")
    expected, said = results["one"]
    current, told = results[way]
    assert jax.tree.structure(current) == jax.tree.structure(expected)
    # Sums of float32 in another order, through ten steps.
    assert_close(current, expected, 1e-5)
    assert int(current.step) == 10
    for one, other in zip(said, told, strict=True):
        assert one == pytest.approx(other, abs=2e-5)


def test_each_device_computes_its_share_alone(results):
    """By XLA's own count of what one device has to do in a step."""
    # Each also computes the optimizer.
    assert 0.2 < results["flops"][4] / results["flops"][1] < 0.5


def test_each_of_eight_devices_holds_its_share_of_the_states(results):
    """Eight seeds on eight devices, and eleven on six, with one to fill up."""
    if "replicas" not in results:
        pytest.skip("JAX 0.7 cannot divide seeds among devices")
    shared = results["replicas"]
    assert shared[8]["replicas"] == {1: 8}
    assert shared[11]["replicas"] == {2: 6}
    for found in shared.values():
        assert not found["collectives"]
        assert found["difference"] < 1e-5
    assert shared[11]["bytes"] == 2 * shared[8]["bytes"]


# -- which devices


class FakeDevice(NamedTuple):
    """As much of a device as `choose` looks at."""

    id: int
    process_index: int


def pretend(patch, processes, local):
    """Have JAX know so many processes, with so many devices each; return them all."""
    devices = [
        FakeDevice(process * local + index, process)
        for process in range(processes)
        for index in range(local)
    ]
    patch.setattr(jax, "devices", lambda: devices)
    patch.setattr(jax, "process_count", lambda: processes)
    patch.setattr(jax, "local_device_count", lambda: local)
    return devices


@given(
    processes=st.integers(1, 4),
    local=st.integers(1, 8),
    each=st.integers(1, 8),
    images=st.integers(1, 50),
)
def test_no_devices_that_divide_the_batch_are_left_out(processes, local, each, images):
    """A batch made for `each` devices of a process is shared by that many, or more."""
    batch = processes * each * images
    with pytest.MonkeyPatch.context() as patch:
        every = pretend(patch, processes, local)
        chosen = parallel.choose("pmap", batch)
    assert chosen.way == "pmap" and batch % chosen.count == 0
    assert chosen.count >= processes * (each if each <= local else 1)
    # The same number of each process, its first ones, in JAX's order.
    own = chosen.count // processes
    assert list(chosen.devices) == [d for d in every if d.id % local < own]


@given(processes=st.integers(2, 4), images=st.integers(0, 50), more=st.integers(1, 3))
def test_a_batch_that_the_processes_do_not_divide_is_refused(processes, images, more):
    batch = processes * images + min(more, processes - 1)
    with pytest.MonkeyPatch.context() as patch:
        pretend(patch, processes, 8)
        with pytest.raises(UserError, match=f"{batch} images.*{processes} proc"):
            parallel.choose("jit", batch)


def test_idle_devices_are_reported(monkeypatch, caplog):
    pretend(monkeypatch, 1, 8)
    with caplog.at_level(logging.INFO, "mnist_jax"):
        assert parallel.choose("jit", 128).count == 8
        assert not caplog.messages
        assert parallel.choose("jit", 86).count == 2
    assert "2 of 8 devices share each batch" in caplog.text


def test_one_device_need_not_wait():
    one = parallel.every()
    assert one.count == jax.device_count() == 1 and not one.must_wait
    tree = {"a": np.arange(3), "key": jax.random.key(1)}
    assert_trees_equal(
        jax.tree.map(jax.random.key_data, one.replicate(tree)["key"]),
        jax.random.key_data(tree["key"]),
    )
