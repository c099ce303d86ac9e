"""What is recorded of the circumstances, and that a change of them is told."""

import json
import logging
import os
import subprocess

import pytest

from mnist_jax.runs import environment


@pytest.fixture
def described():
    return environment.describe()


def test_it_is_json_and_complete(described):
    assert json.loads(json.dumps(described)) == described
    assert described["versions"].keys() >= {"python", "jax", "jaxlib", "flax"}
    assert described["device"] == "cpu"
    assert described["command"]


def test_the_commit_is_git_s(described):
    head = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True)
    if head.returncode:
        pytest.skip("not a git checkout")
    assert described["git_commit"].removesuffix("-dirty") == head.stdout.strip()


def test_no_commit_without_git_or_of_another_project(monkeypatch, tmp_path):
    """The package may be installed inside the repository of another project."""
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    (tmp_path / "environment.py").touch()
    with monkeypatch.context() as patch:
        patch.setattr(environment, "__file__", str(tmp_path / "environment.py"))
        assert environment.git_commit() is None
    monkeypatch.setenv("PATH", "")
    assert environment.git_commit() is None


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="Linux alone")
def test_the_cores_are_those_that_the_process_may_use():
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    try:
        assert environment.available_cores() == 1
    finally:
        os.sched_setaffinity(0, before)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({}, None),
        ({"cores": -1}, "cores"),
        ({"versions": {}}, "versions"),
        ({"settings": {"XLA_FLAGS": "--xla_x"}}, "settings"),
    ],
)
def test_a_run_that_goes_on_elsewhere_says_so(
    described, tmp_path, caplog, change, told
):
    path = tmp_path / "environment.json"
    path.write_text(json.dumps(described | change))
    caplog.set_level(logging.WARNING)
    environment.warn_if_changed(path, described)
    assert (told in caplog.text) if told else not caplog.text
