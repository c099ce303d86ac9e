"""The lower bounds of requirements are versions that `make test-oldest` installs."""

import importlib.metadata
import sys
import tomllib

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

from tests.conftest import ROOT


def requirements():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
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
