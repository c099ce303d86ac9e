"""Errors of devices, in the words of JAX's runtimes, come with what mends them."""

import jax
import jax.numpy as jnp
import pytest

from mnist_jax import experiment
from mnist_jax.devices import failures
from tests.support.commands import run_each

IN_USE = (
    "ABORTED: The TPU is already in use by process with pid 2718466. Not attempting to "
    "load libtpu.so in this process."
)
LOCKED = (
    "ABORTED: Internal error when accessing libtpu multi-process lockfile. Run "
    '"$ sudo rm /tmp/libtpu_lockfile".'
)
STALE = "ABORTED: The TPU is already in use or the lock file is stale. Run lsof"


@pytest.mark.parametrize(
    ("reason", "cure"),
    [(IN_USE, "Process 2718466 "), (LOCKED, "libtpu_lock*"), (STALE, "libtpu_lock*")],
)
def test_a_tpu_that_is_taken_is_told_with_a_way_out(reason, cure):
    error = RuntimeError(f"Unable to initialize backend 'tpu': {reason}")
    message = failures.explain(error)
    assert message and cure in message and message.endswith(str(error))


@pytest.mark.parametrize(
    "error",
    [
        jax.errors.JaxRuntimeError(
            "RESOURCE_EXHAUSTED: Out of memory while trying to allocate 7406166528 "
            "bytes.\nBufferAssignment OOM Debugging.\nBufferAssignment stats:"
        ),
        jax.errors.JaxRuntimeError(
            "RESOURCE_EXHAUSTED: Failed to allocate request for 2.99GiB (3206250496B) "
            "on device ordinal 0"
        ),
        jax.errors.JaxRuntimeError(
            "RESOURCE_EXHAUSTED: XLA:TPU compile permanent error. Ran out of memory in "
            "memory space hbm. Used 21.95G of 15.48G hbm."
        ),
        jax.errors.JaxRuntimeError(
            "RESOURCE_EXHAUSTED: TPU TensorCore Hbm usage: 34.82G, SparseCore Hbm "
            "usage 174.10G, exceeding available bytes: 95.74G"
        ),
        ValueError(
            "RESOURCE_EXHAUSTED: Error allocating device buffer: Attempting to "
            "allocate 8.00M. That was not possible. There are 6.43M free.; (0x0x1_HBM0)"
        ),
    ],
    ids=lambda error: str(error)[20:45],
)
def test_a_lack_of_memory_names_the_flags_that_need_less(error):
    message = failures.explain(error, has_config=True)
    assert message and "batch_size" in message and "eval_batch_size" in message
    assert message.endswith(str(error).splitlines()[0])
    without = failures.explain(error)
    assert without and "--config" not in without


@pytest.mark.parametrize(
    "error",
    [
        ValueError("images must be [n, 28, 28]"),
        RuntimeError("Unknown backend tpu. Available backends are ['cpu']"),
        jax.errors.JaxRuntimeError("INTERNAL: Failed to open libtpu.so: no such file"),
        jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Too many open files"),
    ],
)
def test_other_errors_are_left_alone(error):
    assert failures.explain(error) is None


def test_log_txt_keeps_the_whole_error(small_config, tmp_path, monkeypatch):
    def train(*args, **kwargs):
        jax.jit(lambda: jnp.ones(10**14))()

    monkeypatch.setattr(experiment, "_train", train)
    with pytest.raises(jax.errors.JaxRuntimeError) as caught:
        experiment.run(experiment.parse(small_config), tmp_path)
    assert failures.explain(caught.value)
    assert str(caught.value) in (tmp_path / "log.txt").read_text()


# Starts run.py where a TPU is taken, or memory short, or something else is wrong.
SABOTAGED = """
import runpy, sys
import jax, jax.numpy as jnp
from jax.extend import backend
from mnist_jax import data

kind, reason = sys.argv.pop(), sys.argv.pop()
def fail(*args):
    if kind == "memory":
        jax.jit(lambda: jnp.ones(10**14))()
    raise RuntimeError(reason)
if kind == "tpu":
    backend.register_backend_factory("tpu", fail, priority=300, fail_quietly=True)
else:
    data.load = fail
runpy.run_path("run.py", run_name="__main__")
"""
QUICK = ["--config=configs/quickstart.py"]
CASES = {
    "asked": [*QUICK, "--jax_platforms=tpu", IN_USE, "tpu"],
    "asked, or the CPU": [*QUICK, "--jax_platforms=tpu,cpu", IN_USE, "tpu"],
    "not asked": [*QUICK, "--jax_platforms=", IN_USE, "tpu"],
    "memory": [*QUICK, "", "memory"],
    "other": [*QUICK, "RESOURCE_EXHAUSTED: Too many open files", "other"],
}


@pytest.fixture(scope="module")
def ended(command_env, tmp_path_factory):
    """How the command of each of `CASES` ended, and the folder that none made."""
    folder = tmp_path_factory.mktemp("failures")
    (program := folder / "sabotaged.py").write_text(SABOTAGED)
    cases = [
        [f"--workdir={folder / 'run'}", *arguments] for arguments in CASES.values()
    ]
    results = run_each(str(program), cases, env=command_env)
    assert not (folder / "run").exists()
    return dict(zip(CASES, results, strict=True))


@pytest.mark.parametrize("case", ["asked", "asked, or the CPU", "not asked"])
def test_a_run_does_not_go_on_without_the_tpu_that_another_process_holds(ended, case):
    code, _, stderr = ended[case]
    assert code == 1 and "Traceback" not in stderr
    assert "Error: Process 2718466 holds the TPU" in stderr and IN_USE[:-1] in stderr


def test_a_run_out_of_memory_ends_with_the_cure_and_the_reason(ended):
    code, _, stderr = ended["memory"]
    assert code == 1
    cure, reason = stderr.strip().splitlines()
    assert cure.startswith("Error: The device ran out of memory") and "--config" in cure
    assert "allocating 400000000000000 bytes" in reason


def test_an_unknown_error_keeps_its_traceback(ended):
    code, _, stderr = ended["other"]
    assert code == 1 and "Traceback" in stderr and "Too many open files" in stderr
