"""What a run was made with: versions, device, commit, command."""

import importlib.metadata
import json
import logging
import os
import platform
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import jax

LOGGER = logging.getLogger(__name__)

_PACKAGES = (
    "jax",
    "jaxlib",
    "flax",
    "optax",
    "orbax-checkpoint",
    "numpy",
    "ml-collections",
)
# A difference in these can change the last bits of a result.
_MATTERS = (
    "versions",
    "device",
    "device_kind",
    "device_count",
    "cores",
    "convolutions",
)


def describe(convolutions: str = "XLA", command: str | None = None) -> dict[str, Any]:
    """Return what environment.json holds; asks JAX for its devices.

    Args:
        convolutions: the name of what computes them.
        command: the command line that makes the run; by default this process's.
    """
    device = jax.devices()[0]
    versions = {"python": platform.python_version()}
    versions |= {name: importlib.metadata.version(name) for name in _PACKAGES}
    return {
        "versions": versions,
        "device": device.platform,
        "device_kind": device.device_kind if device.platform != "cpu" else "CPU",
        "device_count": jax.device_count(),
        "cores": os.cpu_count(),
        "convolutions": convolutions,
        "platform": platform.platform(),
        "git_commit": git_commit(),
        "command": command or typed_command(),
    }


def typed_command() -> str:
    """Return the command line that started this process, as one would type it."""
    return shlex.join(["python", *sys.argv])


def git_commit() -> str | None:
    """Return the commit of this code, with `-dirty` if it was changed since.

    None where it does not lie in a git checkout, or git is not there.
    """
    try:
        result = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"],
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return result.stdout.strip()


def warn_if_changed(path: Path, here: dict[str, Any]) -> None:
    """Warn if a run goes on elsewhere than it began (`path`: environment.json)."""
    try:
        there = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        LOGGER.warning("%s cannot be read (%s); going on without it.", path, error)
        return
    changed = [name for name in _MATTERS if there.get(name) != here[name]]
    if changed:
        LOGGER.warning(
            "This run began with another %s (see %s): it goes on, but may differ in "
            "the last bits from one that stayed where it was.",
            ", ".join(changed),
            path,
        )
