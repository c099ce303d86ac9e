"""What `make torture` runs: kills, damage and hostile input, for hours.

A part has a function `cases(options)`, which yields names and functions. A function is
called with an empty folder and returns the number of trials, the messages of those that
failed, and a remark. Cases GROUP/NAME share a row of the table.
"""

import os
from pathlib import Path

from tests.support import commands

CONFIG = f"--config={Path(__file__).with_name('config.py')}"


def environment(options):
    """The environment of commands, which keep compiled programs."""
    return {
        **{**os.environ, **commands.WITHOUT_PICTURES, "JAX_PLATFORMS": "cpu"},
        "JAX_COMPILATION_CACHE_DIR": str(options.folder / "compiled"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.01",
        "JAX_PERSISTENT_CACHE_ENABLE_XLA_CACHES": "none",
        "JAX_DISABLE_MOST_OPTIMIZATIONS": "1",
    }


def run(options, *words):
    return commands.run("mnist_jax", *map(str, words), env=environment(options))


def finished(options, network="lenet5", seed=0):
    """The folder of a run that nothing disturbs. It is trained once."""
    folder = options.folder / "undisturbed" / f"{network}-{seed}"
    words = f"{CONFIG}:{network}", f"--config.seed={seed}", f"--workdir={folder}"
    assert (ended := run(options, "train", *words)).returncode == 0, ended
    return folder


def difference(options, folder):
    """A failure if a run is not as if nothing had disturbed it."""
    from tests.support.runs import outcome  # late: atheris instruments the package

    same = outcome(folder) == outcome(finished(options))
    return [] if same else [f"{folder.name}: another result"]


def fault(code, output):
    """What is wrong with the end of a command: an error must be a single message."""
    errors = output.count("Error: ")
    if "Traceback" in output or code not in (0, 1, 2) or (code and errors != 1):
        return f"exit status {code}, {errors} errors: {output.strip()[-300:]}"
    return ""


def refused(options, cases):
    """The outcome of commands that must end with an error."""
    failures = []
    for words in cases:
        ended = run(options, *words)
        if wrong := fault(ended.returncode or -1, ended.stderr):
            failures.append(f"{words}: {wrong}")
    return len(cases), failures, ""
