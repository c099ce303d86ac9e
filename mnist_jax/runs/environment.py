"""What a run was made with: versions, device, commit, command."""

import importlib.metadata
import logging
import os
import platform
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import jax

from mnist_jax.runs import folder

LOGGER = logging.getLogger(__name__)

_PACKAGES = "jax jaxlib flax optax orbax-checkpoint numpy ml-collections".split()
# A difference in these can change the last bits of a result.
_AFFECTS_RESULTS = (
    "versions device device_kind device_count cores convolutions settings".split()
)
_VARIABLES = re.compile("XLA_FLAGS|LIBTPU_INIT_ARGS|OMP_.*|(ONE)?DNNL?_.*")
_SETTINGS = "jax_default_matmul_precision", "jax_disable_most_optimizations"


def describe(convolutions: str = "XLA", *, seeds: int = 1) -> dict[str, Any]:
    """Return the contents of environment.json.

    `convolutions` names the library that computes them, with its version; `seeds` is
    the number of seeds that train in one program.
    """
    device = jax.devices()[0]
    versions = {"python": platform.python_version()}
    versions |= {name: importlib.metadata.version(name) for name in _PACKAGES}
    return {
        "versions": versions,
        "device": device.platform,
        "device_kind": device.device_kind if device.platform != "cpu" else "CPU",
        "device_count": jax.device_count(),
        "cores": available_cores(),
        "convolutions": convolutions,
        "settings": _settings(),
        "platform": platform.platform(),
        "git_commit": git_commit(),
        "command": typed_command(),
        "seeds_together": seeds,
    }


def _settings() -> dict[str, str]:
    """Return the variables, and the settings of JAX, that change the last bits."""
    found = {name: str(jax.config.values[name] or "") for name in _SETTINGS}
    found |= {k: v for k, v in sorted(os.environ.items()) if _VARIABLES.fullmatch(k)}
    return {name: value for name, value in found.items() if value}


def available_cores() -> int | None:
    """Return the number of CPU cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count()


def typed_command() -> str:
    """Return the command line that started this process, as a user would type it."""
    program, *arguments = sys.argv
    name = Path(program).name
    # `python -m mnist_jax` has the path of __main__.py.
    is_ours = name in ("mnist-jax", "__main__.py")
    return shlex.join(
        [*(["mnist-jax"] if is_ours else ["python", program]), *arguments]
    )


def git_commit() -> str | None:
    """Return the commit of this code, with `-dirty` if it has uncommitted changes.

    None without git, or if the package is not part of a checkout: it may be installed
    inside the repository of another project.
    """
    here = Path(__file__)

    def git(*arguments: str) -> str:
        command = ["git", *arguments]
        return subprocess.check_output(
            command, cwd=here.parent, stderr=subprocess.DEVNULL, text=True
        )

    try:
        git("ls-files", "--error-unmatch", here.name)
        described = git("describe", "--always", "--dirty", "--abbrev=40", "--exclude=*")
    except (OSError, subprocess.CalledProcessError):
        return None
    return described.strip()


def warn_if_changed(path: Path, here: dict[str, Any]) -> None:
    """Warn if a run is resumed in another environment than that of `path`."""
    there = folder.read_json(path)
    changed = [name for name in _AFFECTS_RESULTS if there.get(name) != here[name]]
    if changed:
        LOGGER.warning(
            "This run was started with different %s (see %s). It is resumed, but may "
            "differ in the last bits from a run that was never moved.",
            ", ".join(changed),
            path,
        )
