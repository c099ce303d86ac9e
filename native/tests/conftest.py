"""What all tests share: oneDNN loaded once, and runs of Python that must not crash."""

import importlib.util
import os
import subprocess
import sys
from collections.abc import Callable

import jax
import pytest

# Where it is not installed, there is nothing to test.
if importlib.util.find_spec("onednn_jax") is None:
    collect_ignore_glob = ["test_*.py"]

jax.config.update("jax_platforms", "cpu")
jax.config.update("jax_numpy_rank_promotion", "raise")


@pytest.fixture(scope="session", autouse=True)
def _loaded() -> None:
    import onednn_jax

    onednn_jax.load()


@pytest.fixture(scope="session")
def python() -> Callable[..., str]:
    """Run a program in a new process, and return what it prints."""

    def run(program: str, stdin: str = "", **environment: str) -> str:
        # XLA, oneDNN and the package are to be as this test says, not as they are here.
        names = "XLA_FLAGS", "PYTHONPATH", "NPROC", "ONEDNN_MAX_CPU_ISA"
        kept = {name: x for name, x in os.environ.items() if name not in names}
        done = subprocess.run(
            [sys.executable, "-c", program],
            env={**kept, "JAX_PLATFORMS": "cpu", **environment},
            input=stdin,
            capture_output=True,
            text=True,
            timeout=120,
        )
        # A crash is a negative number.
        assert done.returncode == 0, (done.returncode, done.stderr[-4000:])
        return done.stdout.strip()

    return run


@pytest.fixture(params=["float32", "bfloat16"])
def dtype(request: pytest.FixtureRequest) -> str:
    """Both types, as far as this processor has them."""
    import onednn_jax

    try:
        onednn_jax.load(request.param)
    except onednn_jax.Unavailable as reason:
        assert request.param != "float32", reason
        pytest.skip(str(reason))
    return request.param
