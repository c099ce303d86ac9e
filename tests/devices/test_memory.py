"""Freed memory stays in the process where the C library is glibc."""

import ctypes
import subprocess
import sys

import pytest

from mnist_jax.devices import memory
from tests.conftest import ROOT

# Allocates and frees 40 MB twenty times; prints how many pages were faulted in.
PROGRAM = """
import resource, sys
from mnist_jax.devices import memory
if sys.argv[1] == "keep" and not memory.keep():
    sys.exit("no glibc")
faults = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_minflt
before = faults()
for _ in range(20):
    b"x" * 40_000_000
print(faults() - before)
"""


def page_faults(how):
    ended = subprocess.run(
        [sys.executable, "-c", PROGRAM, how], cwd=ROOT, capture_output=True, text=True
    )
    if "no glibc" in ended.stderr:
        pytest.skip("needs glibc")
    assert ended.returncode == 0, ended.stderr
    return int(ended.stdout)


def test_kept_memory_causes_no_page_faults_again():
    assert page_faults("keep") < page_faults("leave") / 10


@pytest.mark.parametrize("error", [OSError, TypeError, AttributeError])
def test_other_c_libraries_are_left_alone(monkeypatch, error):
    """musl and macOS lack the function; Windows cannot open the process itself."""

    def fail(name):
        raise error

    monkeypatch.setattr(ctypes, "CDLL", fail)
    assert not memory.keep()
