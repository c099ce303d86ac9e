"""`mnist-jax` itself: what it says of its verbs, and of those that it lacks."""

import subprocess
import sys

import pytest

from mnist_jax.__main__ import VERBS
from tests.conftest import ROOT


def command(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "mnist_jax", *arguments],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
    )


@pytest.mark.parametrize("arguments", [(), ("--help",), ("help",)])
def test_every_verb_is_named(arguments):
    result = command(*arguments)
    assert result.returncode == 0
    assert all(f"\n  {verb} " in result.stdout for verb in VERBS)


def test_an_unknown_verb_is_an_error():
    result = command("predictt")
    assert result.returncode == 2 and not result.stdout
    assert "no verb 'predictt'" in result.stderr and "compare" in result.stderr


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_describes_itself(verb):
    result = command(verb, "--helpshort")
    assert f"mnist-jax {verb}" in result.stdout, result.stderr
