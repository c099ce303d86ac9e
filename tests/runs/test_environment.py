"""What is recorded of the circumstances, and that a change of them is told."""

import json
import logging
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


def test_no_git_is_no_error(monkeypatch):
    monkeypatch.setenv("PATH", "")
    assert environment.git_commit() is None


@pytest.mark.parametrize(
    ("change", "told"),
    [({}, None), ({"cores": -1}, "cores"), ({"versions": {}}, "versions")],
)
def test_a_run_that_goes_on_elsewhere_says_so(
    described, tmp_path, caplog, change, told
):
    path = tmp_path / "environment.json"
    path.write_text(json.dumps(described | change))
    caplog.set_level(logging.WARNING)
    environment.warn_if_changed(path, described)
    assert (told in caplog.text) if told else not caplog.text


def test_a_lost_record_does_not_stop_the_run(described, tmp_path, caplog):
    environment.warn_if_changed(tmp_path / "environment.json", described)
    assert "Cannot read" in caplog.text
