"""Seconds to an accuracy, over seeds, compilation included.

  python -m benchmarks.time_to_accuracy [--config=configs/speedrun.py] [--seeds=10]
      [--target=0.99] [--cache] [--dtype=bfloat16]

Each seed is a run of run.py. The clock starts with the command. It is read when
results.json is written, after the test and before the pictures, and at the end of the
first epoch whose validation accuracy is at least --target. Each seed has an empty
folder of compiled programs; with --cache one folder serves all, which a run that is not
counted fills.
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
from typing import NamedTuple

from absl import app, flags

_CONFIG = flags.DEFINE_string("config", "configs/speedrun.py", "The experiment.")
_SEEDS = flags.DEFINE_integer("seeds", 10, "How many runs.", lower_bound=1)
_TARGET = flags.DEFINE_float("target", 0.99, "The accuracy that runs should reach.")
_CACHE = flags.DEFINE_bool("cache", False, "Whether compiled programs are kept.")
_DTYPE = flags.DEFINE_enum(
    "dtype", "float32", ["float32", "bfloat16"], "The runs' --config.dtype."
)


class Timing(NamedTuple):
    """A run's test accuracy, and seconds since its command.

    Attributes:
        accuracy: on the test set.
        seconds: until results.json was written.
        epoch: the first whose validation accuracy reached the target, if any.
        target_seconds: until its end.
    """

    accuracy: float
    seconds: float
    epoch: int | None
    target_seconds: float | None


def run(seed: int, folder: Path, cache: Path) -> Timing:
    """Run one seed to its end."""
    begin = time.time()
    subprocess.run(
        [
            *(sys.executable, "run.py", f"--config={_CONFIG.value}"),
            *(f"--config.seed={seed}", f"--config.dtype={_DTYPE.value}"),
            f"--workdir={folder}",
        ],
        cwd=Path(__file__).parent.parent,
        env=os.environ | {"JAX_COMPILATION_CACHE_DIR": str(cache)},
        check=True,
        stdout=subprocess.DEVNULL,
    )
    results = folder / "results.json"
    seconds = results.stat().st_mtime - begin
    accuracy = json.loads(results.read_text())["test_accuracy"]
    for line in (folder / "metrics.jsonl").read_text().splitlines():
        entry = json.loads(line)
        if entry["split"] == "val" and entry["accuracy"] >= _TARGET.value:
            return Timing(accuracy, seconds, entry["epoch"], entry["time"] - begin)
    return Timing(accuracy, seconds, None, None)


def _describe(seconds: Sequence[float]) -> str:
    return (
        f"mean {statistics.mean(seconds):.1f}, median "
        f"{statistics.median(seconds):.1f} ({min(seconds):.1f}-{max(seconds):.1f})"
    )


def main(arguments: list[str]) -> None:
    """Run all seeds and print how long they took."""
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
            print(f"seed {seed}: {found[-1]}", flush=True)
    accuracies = [each.accuracy for each in found]
    spread = f", sd {statistics.stdev(accuracies):.4f}" if len(found) > 1 else ""
    reached = [each.target_seconds for each in found if each.target_seconds is not None]
    print(
        f"{_CONFIG.value}: test accuracy {statistics.mean(accuracies):.4f}{spread}, "
        f"n = {len(found)}, {sum(a >= _TARGET.value for a in accuracies)} of them at "
        f"least {_TARGET.value}\n"
        f"seconds to results.json: {_describe([each.seconds for each in found])}\n"
        f"seconds to a validation accuracy of {_TARGET.value}, reached by "
        f"{len(reached)} of {len(found)}: {_describe(reached) if reached else '-'}"
    )


if __name__ == "__main__":
    app.run(main)
