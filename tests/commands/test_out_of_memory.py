"""A lack of memory, in the words of JAX's runtimes, comes with a way out."""

from mnist_jax.commands import cli
from tests.support.commands import run_each

OUT_OF_MEMORY = [
    "RESOURCE_EXHAUSTED: Out of memory while trying to allocate 7406166528 bytes.\n"
    "BufferAssignment OOM Debugging.\nBufferAssignment stats:",
    "RESOURCE_EXHAUSTED: Failed to allocate request for 2.99GiB (3206250496B) on "
    "device ordinal 0",
    "RESOURCE_EXHAUSTED: XLA:TPU compile permanent error. Ran out of memory in memory "
    "space hbm. Used 21.95G of 15.48G hbm.",
]


def test_a_lack_of_memory_is_known_in_the_words_of_every_runtime():
    for reason in OUT_OF_MEMORY:
        assert cli._OUT_OF_MEMORY.search(reason)
    assert not cli._OUT_OF_MEMORY.search("RESOURCE_EXHAUSTED: Too many open files")


# Starts run.py where memory is short, or where something else is wrong.
SABOTAGED = """
import runpy, sys
import jax, jax.numpy as jnp
from mnist_jax import data

kind = sys.argv.pop()
def fail(*args):
    if kind == "memory":
        jax.jit(lambda: jnp.ones(10**14))()
    raise RuntimeError("RESOURCE_EXHAUSTED: Too many open files")
data.load = fail
runpy.run_path("run.py", run_name="__main__")
"""
QUICK = "--config=configs/quickstart.py"


def test_commands_print_the_way_out_and_no_traceback(command_env, tmp_path):
    (program := tmp_path / "sabotaged.py").write_text(SABOTAGED)
    workdir = f"--workdir={tmp_path / 'run'}"
    cases = [[QUICK, workdir, kind] for kind in ("memory", "other")]
    cases.append([QUICK, workdir, "--jax_platforms=tpu", "other"])
    memory, other, no_device = run_each(str(program), cases, env=command_env)
    assert not (tmp_path / "run").exists()
    way_out, reason = memory.stderr.strip().splitlines()
    assert memory.returncode == 1
    assert way_out.startswith("Error: The device ran out of memory")
    assert "--config" in way_out and "allocating 400000000000000 bytes" in reason
    assert other.returncode == 1
    assert "Traceback" in other.stderr and "Too many open files" in other.stderr
    assert no_device.returncode == 1 and len(no_device.stderr.splitlines()) == 1
    assert "JAX found no device for the platform 'tpu'" in no_device.stderr
