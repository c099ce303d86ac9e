"""Images per second in training: ours, Keras on TensorFlow, and PyTorch.

  python -m benchmarks.throughput [--networks=lenet5,double_cnn,...]
      [--frameworks=mnist_jax,keras:kept,...] [--rounds=7] [--output=FILE.json]

Each framework has its own process. In each round, all train an epoch, one
after the other, in an order that rotates. Ratios of the first framework to each other
one are taken within a round, since disturbances of the machine usually affect a whole
round. The report's recipe is trained on noise of MNIST's shape.

`mnist_jax:xla` is ours without oneDNN, `mnist_jax:bfloat16` ours in bfloat16.
`keras:kept` and `torch:kept` keep freed memory in the process, as ours does. On an
NVIDIA GPU, PyTorch uses it too; `torch:compiled` is its `torch.compile`. `vgg16` is
the phase in which everything is trained.
"""

import contextlib
import json
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

from absl import app, flags
from rich.console import Console
from rich.table import Table

from benchmarks import work
from mnist_jax import files
from mnist_jax.runs import environment

_NETWORKS = flags.DEFINE_list("networks", list(work.RECIPES), "Which networks.")
_FRAMEWORKS = flags.DEFINE_list("frameworks", list(work.FRAMEWORKS), "Which of them.")
_AUGMENTED = flags.DEFINE_list(
    "augmented", ["False", "True"], "Whether with the report's augmentation."
)
_ROUNDS = flags.DEFINE_integer("rounds", 7, "Epochs of each framework.", lower_bound=1)
_STEPS = flags.DEFINE_integer(
    "steps", 0, "Steps of an epoch. 0: as many as take some seconds.", lower_bound=0
)
_OUTPUT = flags.DEFINE_string("output", None, "Where to write what was measured.")


class Worker:
    """A framework in its own process: see benchmarks/worker.py."""

    def __init__(self, framework: str, what: work.Work):
        self.framework = framework
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.worker", framework, *map(str, what)],
            cwd=Path(__file__).parent.parent,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def wait(self) -> dict[str, str]:
        """Wait until it is ready; return the versions it uses."""
        return json.loads(self._read())

    def run(self) -> float:
        """Train an epoch; return its seconds."""
        assert self._process.stdin
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        return float(self._read())

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.wait()

    def _read(self) -> str:
        assert self._process.stdout
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit(f"{self.framework} ended with {self._process.wait()}.")
        return line


def measure(frameworks: list[str], what: work.Work, rounds: int) -> dict[str, Any]:
    """Return the images per second of each framework in each round."""
    with contextlib.ExitStack() as stack:
        workers = []
        for framework in frameworks:
            workers.append(Worker(framework, what))
            stack.callback(workers[-1].close)
        versions = {k: v for worker in workers for k, v in worker.wait().items()}
        rates: dict[str, list[float]] = {framework: [] for framework in frameworks}
        for index in range(rounds):
            turn = index % len(workers)
            for worker in workers[turn:] + workers[:turn]:
                rates[worker.framework].append(what.images / worker.run())
    return {**what._asdict(), "images_per_second": rates, "versions": versions}


def ratio(result: dict[str, Any], framework: str) -> float | None:
    """Return the median, over rounds, of the first one's rate over another's."""
    first, *others = result["images_per_second"].items()
    if framework not in dict(others):
        return None
    pairs = zip(first[1], dict(others)[framework], strict=True)
    return statistics.median(ours / theirs for ours, theirs in pairs)


def table(results: list[dict[str, Any]]) -> Table:
    """Return a table of results, with a row per network and framework."""
    made = Table(
        *("Network", "Augmentation", "Framework", "Images per second"),
        "First / it",
    )
    for result in results:
        augmented = "the report's" if result["augmented"] else "none"
        for framework, rates in result["images_per_second"].items():
            middle = statistics.median(rates)
            found = ratio(result, framework)
            compared = "" if found is None else f"{found:.2f}"
            spread = f"{middle:,.0f} ({min(rates):,.0f}-{max(rates):,.0f})"
            made.add_row(result["network"], augmented, framework, spread, compared)
    return made


def main(arguments: list[str]) -> None:
    """Measure, print, write."""
    if arguments[1:]:
        raise app.UsageError(f"Unexpected argument {arguments[1]!r}.")
    console, results = Console(), []
    for network in _NETWORKS.value:
        for augmented in _AUGMENTED.value:
            steps = _STEPS.value or work.RECIPES[network].steps
            what = work.Work(network, augmented == "True", steps)
            results.append(measure(_FRAMEWORKS.value, what, _ROUNDS.value))
            console.print(table(results[-1:]))
    console.print("Images per second: median of the rounds, lowest and highest.")
    console.print(table(results))
    if _OUTPUT.value:
        here = environment.describe()
        found = {"environment": here, "cores": work.cores(), "results": results}
        files.write_json(Path(_OUTPUT.value), found)


if __name__ == "__main__":
    app.run(main)
