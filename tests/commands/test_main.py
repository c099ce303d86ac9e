"""`mnist-jax` itself: what it says of its verbs, and of those that it lacks."""

import pytest

import mnist_jax
from mnist_jax.__main__ import VERBS
from tests.support.commands import ROOT, run_each

CASES = (
    [],
    ["--help"],
    ["help"],
    ["--version"],
    ["predictt"],
    *([v, "--helpshort"] for v in VERBS),
)


@pytest.fixture(scope="module")
def ended(command_env):
    """What `mnist-jax` ends with, by its arguments."""
    results = run_each("mnist_jax", CASES, env=command_env)
    return {tuple(case): result for case, result in zip(CASES, results, strict=True)}


@pytest.mark.parametrize("arguments", [(), ("--help",), ("help",)])
def test_every_verb_is_named(ended, arguments):
    result = ended[arguments]
    assert result.returncode == 0
    assert all(f"\n  {verb} " in result.stdout for verb in VERBS)


def test_the_version_is_told_and_is_that_of_the_citation(ended):
    result, version = ended["--version",], mnist_jax.__version__
    assert (result.returncode, result.stdout) == (0, f"mnist_jax {version}\n")
    assert f"version = {{{version}}}" in (ROOT / "README.md").read_text()


def test_an_unknown_verb_is_an_error(ended):
    result = ended["predictt",]
    assert result.returncode == 2 and not result.stdout
    assert "no verb 'predictt'" in result.stderr and "compare" in result.stderr


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_describes_itself(ended, verb):
    result = ended[verb, "--helpshort"]
    assert f"mnist-jax {verb}" in result.stdout, result.stderr
