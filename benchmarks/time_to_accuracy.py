"""Seconds to an accuracy, over seeds, compilation included.

  python -m benchmarks.time_to_accuracy [--config=configs/speedrun.py] [--seeds=10]
      [--goal=0.99] [--cache]
  python -m benchmarks.time_to_accuracy --config=configs/double_cnn.py:fast \
      --target=0.995 [--dtype=bfloat16] \
      [--report=runs/double_cnn/seeds --peers=benchmarks/throughput.json]

The first measures whole runs. The clock starts after Python's imports and stops when
results.json is written: reading the data, compiling, training, validation, checkpoints
and the test count; the pictures that follow do not. Each seed gets a process and an
empty folder of compiled programs (one for all with --cache, which the first seed fills
and which is not counted).

The second measures what a user waits for: seconds from the command until the validation
accuracy, in whichever epoch, is first at least --target. The run is then stopped.
--report and --peers set beside it what other frameworks would need with the report's
recipe: the epochs that runs of that recipe took to the same target (--report), times
the seconds of an epoch that `benchmarks.throughput` measured for each framework
(--peers). Neither their start nor their validation is charged.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from absl import app, flags

from benchmarks import work
from benchmarks.targets import first_epoch, seconds_an_epoch
from mnist_jax.devices import memory

_CONFIG = flags.DEFINE_string("config", "configs/speedrun.py", "The experiment.")
_SEEDS = flags.DEFINE_integer("seeds", 10, "How many runs.", lower_bound=1)
_GOAL = flags.DEFINE_float("goal", 0.99, "The test accuracy that runs should reach.")
_CACHE = flags.DEFINE_bool("cache", False, "Whether compiled programs are kept.")
_TARGET = flags.DEFINE_float("target", None, "Stop runs at this validation accuracy.")
_DTYPE = flags.DEFINE_enum(
    "dtype", "float32", ["float32", "bfloat16"], "With --target: --config.dtype."
)
_REPORT = flags.DEFINE_string("report", None, "Folder of runs of the report's recipe.")
_PEERS = flags.DEFINE_string("peers", None, "What benchmarks.throughput has written.")
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


def _environment(cache: Path) -> dict[str, str]:
    return os.environ | memory.settings() | {"JAX_COMPILATION_CACHE_DIR": str(cache)}


def run(seed: int, folder: Path, cache: Path) -> tuple[float, float]:
    """Run one seed; return its test accuracy and its seconds."""
    command = [sys.executable, "-c", _RUN, _CONFIG.value, str(seed), str(folder)]
    result = subprocess.run(
        command,
        cwd=_ROOT,
        env=_environment(cache),
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    accuracy, seconds = json.loads(result.stdout.splitlines()[-1])
    return accuracy, seconds


def run_until(
    target: float, seed: int, folder: Path, cache: Path
) -> tuple[int, float] | None:
    """Run one seed until its validation accuracy is at least `target`.

    Returns:
        The epoch and the seconds since the command; None if the run ended before.
    """
    begin = time.perf_counter()
    process = subprocess.Popen(
        [
            *(sys.executable, "run.py", f"--config={_CONFIG.value}"),
            *(f"--config.seed={seed}", f"--workdir={folder}"),
            f"--config.dtype={_DTYPE.value}",
        ],
        cwd=_ROOT,
        env=_environment(cache),
        stdout=subprocess.DEVNULL,
    )
    try:
        while True:
            ended = process.poll() is not None
            if epoch := first_epoch(folder, target):
                return epoch, time.perf_counter() - begin
            if ended:
                if process.returncode:
                    raise SystemExit(f"The run of seed {seed} failed.")
                return None
            time.sleep(0.05)
    finally:
        process.kill()
        process.wait()


def _say_seconds(seconds: Sequence[float]) -> str:
    return (
        f"mean {statistics.mean(seconds):.1f}, median "
        f"{statistics.median(seconds):.1f} ({min(seconds):.1f}-{max(seconds):.1f})"
    )


def _say_peers(target: float, network: str, report: Path, peers: Path) -> None:
    """Print how long each framework takes with the report's recipe."""
    runs = [path.parent for path in sorted(report.rglob("metrics.jsonl"))]
    found = {str(each): first_epoch(each, target) for each in runs}
    epochs = [epoch for epoch in found.values() if epoch]
    print(f"epochs of the report's recipe to {target:g}: {found}")
    if not epochs:
        return
    mean = statistics.mean(epochs)
    measured = json.loads(peers.read_text())["results"]
    for framework, epoch in seconds_an_epoch(network, measured).items():
        print(
            f"{framework}: {epoch:.1f} s an epoch, {mean:.1f} epochs: "
            f"{epoch * mean:.0f} s"
        )


def _measure_target(target: float, folder: Path) -> None:
    found = []
    for seed in range(_SEEDS.value):
        reached = run_until(
            target, seed, folder / f"seed{seed}", folder / f"compiled{seed}"
        )
        if reached:
            found.append(reached)
            print(f"seed {seed}: epoch {reached[0]}, {reached[1]:.1f} s", flush=True)
        else:
            print(f"seed {seed}: not reached", flush=True)
    print(f"{_CONFIG.value}: {len(found)} of {_SEEDS.value} runs reached {target:g}")
    if found:
        print(f"seconds from the command: {_say_seconds([each[1] for each in found])}")


def _measure_runs(folder: Path) -> None:
    found = []
    if _CACHE.value:
        run(0, folder / "first", folder / "compiled")
    for seed in range(_SEEDS.value):
        compiled = "compiled" if _CACHE.value else f"compiled{seed}"
        found.append(run(seed, folder / f"seed{seed}", folder / compiled))
        print(f"seed {seed}: {found[-1][0]:.4f} in {found[-1][1]:.1f} s", flush=True)
    accuracies, seconds = zip(*found, strict=True)
    spread = f", sd {statistics.stdev(accuracies):.4f}" if len(found) > 1 else ""
    reached = sum(accuracy >= _GOAL.value for accuracy in accuracies)
    print(
        f"{_CONFIG.value}: mean accuracy {statistics.mean(accuracies):.4f}{spread}, "
        f"n = {len(found)}, {reached} of them at least {_GOAL.value}\n"
        f"seconds: {_say_seconds(seconds)}"
    )


def main(arguments: list[str]) -> None:
    """Run all seeds and print how long they took."""
    if arguments[1:]:
        raise app.UsageError(f"Unexpected argument {arguments[1]!r}.")
    if bool(_REPORT.value) != bool(_PEERS.value):
        raise app.UsageError("--report and --peers need each other.")
    network = Path(_CONFIG.value.partition(":")[0]).stem
    if _PEERS.value and (_TARGET.value is None or network not in work.NETWORKS):
        raise app.UsageError("--peers needs --target and the report's network.")
    for path in filter(None, (_REPORT.value, _PEERS.value)):
        if not Path(path).exists():
            raise app.UsageError(f"There is no {path}.")
    with tempfile.TemporaryDirectory() as name:
        if _TARGET.value is None:
            _measure_runs(Path(name))
        else:
            _measure_target(_TARGET.value, Path(name))
    if _TARGET.value is not None and _REPORT.value and _PEERS.value:
        _say_peers(_TARGET.value, network, Path(_REPORT.value), Path(_PEERS.value))


if __name__ == "__main__":
    app.run(main)
