"""Peak memory of a run: `ru_maxrss` of the process of run.py.

  python -m benchmarks.memory [--config=configs/lenet5.py] [--epochs=2]

All epochs take the same, so a few are enough.
"""

import resource
import subprocess
import sys
import tempfile
from pathlib import Path

from absl import app, flags

_CONFIG = flags.DEFINE_string("config", "configs/lenet5.py", "The experiment.")
_EPOCHS = flags.DEFINE_integer("epochs", 2, "Of its first phase.", lower_bound=1)


def main(arguments: list[str]) -> None:
    """Run, then print the peak memory of the process."""
    if arguments[1:]:
        raise app.UsageError(f"Unexpected argument {arguments[1]!r}.")
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(
            [
                sys.executable,
                "run.py",
                f"--config={_CONFIG.value}",
                f"--config.phases[0].epochs={_EPOCHS.value}",
                f"--workdir={folder}/run",
            ],
            cwd=Path(__file__).parent.parent,
            check=True,
        )
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    # Kilobytes on Linux, bytes on macOS.
    peak /= 2**30 if sys.platform == "darwin" else 2**20
    print(f"{_CONFIG.value}: {peak:.2f} GiB at most")


if __name__ == "__main__":
    app.run(main)
