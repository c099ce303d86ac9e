"""The examples of docs/api.md and of docstrings do what they say."""

import doctest
import importlib
import re

import pytest

from tests.conftest import ROOT

# `...` stands for anything, and tracebacks need no module in front of the error.
FLAGS = doctest.ELLIPSIS | doctest.IGNORE_EXCEPTION_DETAIL


def check(test):
    """Run the examples of one test, which share their names."""
    report = []
    runner = doctest.DocTestRunner(optionflags=FLAGS)
    runner.run(test, out=report.append)
    assert not runner.failures, "".join(report)


@pytest.mark.usefixtures("little_optimized", "without_pictures")
def test_the_examples_of_the_api_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = (ROOT / "docs" / "api.md").read_text()
    blocks = re.findall(r"^```python\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    assert "\n".join(blocks).count(">>>") == text.count(">>>")
    parsed = doctest.DocTestParser().get_doctest(
        "\n".join(blocks), {}, "docs/api.md", None, None
    )
    check(parsed)


WITH_EXAMPLES = [
    ".".join(path.relative_to(ROOT).with_suffix("").parts)
    for path in sorted((ROOT / "mnist_jax").rglob("*.py"))
    if ">>>" in path.read_text()
]


@pytest.mark.parametrize("name", WITH_EXAMPLES)
def test_the_examples_of_docstrings_run(name):
    tests = doctest.DocTestFinder().find(importlib.import_module(name))
    tests = [test for test in tests if test.examples]
    assert tests
    for test in tests:
        check(test)
