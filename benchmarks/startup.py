"""Seconds from the command to the first step, with and without cached programs.

  python -m benchmarks.startup [--config=configs/lenet5.py] [--rounds=5]

Commands run in pairs: the first fills a new cache of compiled programs, the second
finds it full. The time ends when a command reports that it has compiled; the first step
takes milliseconds more.
"""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from absl import app, flags

_CONFIG = flags.DEFINE_string("config", "configs/lenet5.py", "The experiment.")
_ROUNDS = flags.DEFINE_integer("rounds", 5, "How often.", lower_bound=1)
_ROOT = Path(__file__).parent.parent


def seconds(cache: str, workdir: str) -> float:
    """Start run.py, wait until it has compiled, end it."""
    begin = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "run.py", f"--config={_CONFIG.value}", f"--workdir={workdir}"],
        cwd=_ROOT,
        env=os.environ | {"JAX_COMPILATION_CACHE_DIR": cache},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout
    for line in process.stdout:
        if line.startswith("Compiled in"):
            break
    else:
        raise SystemExit(f"run.py ended with {process.wait()}.")
    taken = time.perf_counter() - begin
    process.kill()
    process.wait()
    return taken


def main(arguments: list[str]) -> None:
    """Measure and print."""
    if arguments[1:]:
        raise app.UsageError(f"Unexpected argument {arguments[1]!r}.")
    first, again = [], []
    for _ in range(_ROUNDS.value):
        with tempfile.TemporaryDirectory() as folder:
            for times, name in ((first, "first"), (again, "again")):
                times.append(seconds(f"{folder}/compiled", f"{folder}/{name}"))
    for name, times in (("the first time", first), ("with the cache", again)):
        print(
            f"{_CONFIG.value}, {name}: median {statistics.median(times):.1f} s "
            f"({min(times):.1f}-{max(times):.1f}, n = {len(times)})"
        )


if __name__ == "__main__":
    app.run(main)
