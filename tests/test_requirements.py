"""Lower bounds can be installed by `make test-oldest`; wheels have every file."""

import importlib.metadata
import sys
import tomllib

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

from tests.conftest import ROOT

PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def requirements():
    project = PYPROJECT["project"]
    lines = (ROOT / "requirements.txt").read_text().splitlines()
    product = [line.partition("#")[0] for line in lines]
    return [
        Requirement(line)
        for line in [*product, *project["optional-dependencies"]["dev"]]
        if line.strip()
    ]


@pytest.mark.parametrize("requirement", requirements(), ids=lambda r: r.name)
def test_a_lower_bound_can_be_installed(requirement):
    (bound,) = requirement.specifier
    assert bound.operator == ">="
    installed = Version(importlib.metadata.version(requirement.name))
    if sys.prefix.endswith(".venv-oldest"):
        assert installed == Version(bound.version)
    else:
        assert installed >= Version(bound.version)


def test_a_wheel_has_every_file_of_the_package():
    package = ROOT / "mnist_jax"
    patterns = PYPROJECT["tool"]["setuptools"]["package-data"]["mnist_jax"]
    packed = {path for pattern in patterns for path in package.glob(pattern)}
    for path in package.rglob("*"):
        if path.is_file() and "__pycache__" not in path.parts:
            own = path.suffix == ".py" and (path.parent / "__init__.py").exists()
            assert own or path in packed, path
