"""Seconds to an accuracy: whole runs of a config, over seeds, compilation included.

  python -m benchmarks.time_to_accuracy [--config=configs/speedrun.py] [--seeds=10]
      [--goal=0.99] [--cache]

The time from the end of Python's imports to the writing of results.json includes
reading the data, compiling, training, validation, checkpoints and the test, but no
pictures. Each seed has a process and an empty cache of compiled programs of its own
(with --cache, all share one, which an additional run fills first).
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from absl import app, flags

from mnist_jax.devices import memory

_CONFIG = flags.DEFINE_string("config", "configs/speedrun.py", "The experiment.")
_SEEDS = flags.DEFINE_integer("seeds", 10, "How many runs.", lower_bound=1)
_GOAL = flags.DEFINE_float("goal", 0.99, "The test accuracy to be reached.")
_CACHE = flags.DEFINE_bool("cache", False, "Whether compiled programs are kept.")
_ROOT = Path(__file__).parent.parent

# What a process does for one seed: config, seed, run folder.
_RUN = """
import importlib.util, json, os, sys, time
from mnist_jax import experiment
from mnist_jax.devices import compiler
path, seed, folder = sys.argv[1:]
spec = importlib.util.spec_from_file_location("config", path)
module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
begin = time.time()
compiler.keep_compiled()
config = module.get_config()
config.seed = int(seed)
results = experiment.run(experiment.parse(config), folder)
end = os.stat(f"{folder}/results.json").st_mtime
print(json.dumps([results["test_accuracy"], end - begin]))
"""


def run(seed: int, folder: Path, cache: Path) -> tuple[float, float]:
    """Run one seed; return its test accuracy and its seconds."""
    command = [sys.executable, "-c", _RUN, _CONFIG.value, str(seed), str(folder)]
    result = subprocess.run(
        command,
        cwd=_ROOT,
        env=os.environ | memory.settings() | {"JAX_COMPILATION_CACHE_DIR": str(cache)},
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    accuracy, seconds = json.loads(result.stdout.splitlines()[-1])
    return accuracy, seconds


def main(arguments: list[str]) -> None:
    """Run all seeds and print a summary."""
    if arguments[1:]:
        raise app.UsageError(f"Unexpected argument {arguments[1]!r}.")
    found = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if _CACHE.value:
            run(0, folder / "first", folder / "compiled")
        for seed in range(_SEEDS.value):
            compiled = "compiled" if _CACHE.value else f"compiled{seed}"
            found.append(run(seed, folder / f"seed{seed}", folder / compiled))
            print(
                f"seed {seed}: {found[-1][0]:.4f} in {found[-1][1]:.1f} s", flush=True
            )
    accuracies, seconds = zip(*found, strict=True)
    spread = f", sd {statistics.stdev(accuracies):.4f}" if len(found) > 1 else ""
    reached = sum(accuracy >= _GOAL.value for accuracy in accuracies)
    print(
        f"{_CONFIG.value}: mean accuracy {statistics.mean(accuracies):.4f}{spread}, "
        f"n = {len(found)}, {reached} of them at least {_GOAL.value}\n"
        f"seconds: mean {statistics.mean(seconds):.1f}, median "
        f"{statistics.median(seconds):.1f} ({min(seconds):.1f}-{max(seconds):.1f})"
    )


if __name__ == "__main__":
    app.run(main)
