"""Freed memory is kept where there is glibc, by commands that nobody asked not to."""

import os
import subprocess
import sys

import pytest

from mnist_jax.devices import memory
from tests.conftest import ROOT

glibc = pytest.mark.skipif(not memory._has_glibc(), reason="needs glibc")

# Takes and gives back 32 MiB a hundred times; says how, and how many pages were new.
PROGRAM = """
import os, resource, sys
from mnist_jax.devices import memory
memory.keep()
import numpy as np
faults = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_minflt
before = faults()
for _ in range(100):
    np.ones(4_000_000).sum()
print(faults() - before, sys.argv[1:], os.environ.get("GLIBC_TUNABLES", ""), sep="|")
"""


def run(*arguments, **environment):
    """Return the page faults, the arguments and the settings that a process saw."""
    env = {k: v for k, v in os.environ.items() if k != "GLIBC_TUNABLES"}
    result = subprocess.run(
        [sys.executable, "-c", PROGRAM, *arguments],
        cwd=ROOT,
        env=env | environment,
        capture_output=True,
        text=True,
        check=True,
    )
    faults, seen, settings = result.stdout.strip().split("|")
    return int(faults), seen, settings


@glibc
def test_a_command_starts_itself_anew_and_keeps_its_memory():
    faults, seen, settings = run("--a=b c", "d")
    assert seen == "['--a=b c', 'd']"  # as they were given
    assert "glibc.malloc.mmap_max=0" in settings
    without, _, _ = run("--nokeep_memory")
    assert faults < without / 10


@glibc
@pytest.mark.parametrize(
    "off",
    ["--nokeep_memory", "-nokeep_memory", "--keep_memory=false", "--keep_memory=0"],
)
def test_it_is_left_out_if_asked(off):
    assert run(off)[1:] == (f"['{off}']", "")


@glibc
def test_what_the_user_set_stays():
    other = "glibc.pthread.rseq=1"
    assert run(GLIBC_TUNABLES=other)[2].startswith(f"{other}:glibc.malloc.")
    own = "glibc.malloc.arena_max=2"
    assert run(GLIBC_TUNABLES=own)[2] == own


def raises(*args):
    raise ValueError


@pytest.mark.parametrize("confstr", [raises, lambda name: None])
def test_without_glibc_nothing_happens(monkeypatch, confstr):
    """musl has no such name; elsewhere there may be no such function."""
    monkeypatch.delenv("GLIBC_TUNABLES", raising=False)
    monkeypatch.setattr(os, "confstr", confstr)
    assert memory.settings() == {}
    memory.keep()
    monkeypatch.delattr(os, "confstr")
    assert memory.settings() == {}


@glibc
def test_a_process_that_cannot_be_started_anew_goes_on(monkeypatch, capsys):
    def fails(*args):
        raise OSError("Argument list too long")

    monkeypatch.setattr(os, "environ", dict(os.environ))
    os.environ.pop("GLIBC_TUNABLES", None)
    monkeypatch.setattr(os, "execv", fails)
    memory.keep()
    assert "Argument list too long" in capsys.readouterr().err
