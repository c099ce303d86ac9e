"""Commands as a user types them, without starting Python for each."""

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

# Imports what takes time, then forks for each command before JAX has made any threads.
DRIVER = """
import json, os, runpy, sys
import jax, mnist_jax.commands.cli

program, folder, cases = json.load(sys.stdin)
codes = []
for number, arguments in enumerate(cases):
    if not (child := os.fork()):
        for stream, name in ((1, "stdout"), (2, "stderr")):
            path = os.path.join(folder, f"{number}.{name}")
            os.dup2(os.open(path, os.O_CREAT | os.O_WRONLY), stream)
        sys.argv = [program, *arguments]
        if program.endswith(".py"):
            runpy.run_path(program, run_name="__main__")
        else:
            runpy.run_module(program, run_name="__main__", alter_sys=True)
        os._exit(0)
    codes.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
print(json.dumps(codes))
"""


class Ended(NamedTuple):
    """A command that has come to its end."""

    returncode: int
    stdout: str
    stderr: str


def run_each(
    program: str,
    cases: Sequence[Sequence[str]],
    *,
    cwd: Path,
    env: dict[str, str],
    folder: Path,
) -> list[Ended]:
    """Run a program with each of some arguments, one after the other.

    Args:
        program: a script, or the name of a package.
        cases: the arguments of each run.
        cwd: where they run; has the packages.
        env: the environment of all.
        folder: for what they print.
    """
    done = subprocess.run(
        [sys.executable, "-c", DRIVER],
        cwd=cwd,
        # With a setting of the allocator's the commands do not start themselves anew.
        env=env | {"GLIBC_TUNABLES": "glibc.malloc.top_pad=0"},
        input=json.dumps([program, str(folder), cases]),
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr
    return [
        Ended(code, *((folder / f"{n}.{s}").read_text() for s in ("stdout", "stderr")))
        for n, code in enumerate(json.loads(done.stdout))
    ]
