"""Train and test the network that a config describes.

  mnist-jax train --config=lenet5 [--config.FIELD=VALUE ...] [--workdir=FOLDER]

The config is one that `mnist-jax list` names, or a file. Repeat the command
with the same --workdir to resume a run that was stopped. `mnist-jax fields`
lists every field; docs/scaling.md explains several processes.
"""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import jax
from absl import flags

from mnist_jax.commands import config_flag, outputs
from mnist_jax.errors import UserError

_CONFIG = config_flag.define()
_WORKDIR = flags.DEFINE_string(
    "workdir", None, "The run folder. Default: runs/<config>/<date-time>."
)
_DISTRIBUTED = flags.DEFINE_bool(
    "distributed", False, "One of several processes that train together."
)
_COORDINATOR = flags.DEFINE_string(
    "coordinator", None, "HOST:PORT of process 0, if the environment does not name it."
)
_PROCESS_ID = flags.DEFINE_integer("process_id", None, "Index of this process, from 0.")
_NUM_PROCESSES = flags.DEFINE_integer("num_processes", None, "Number of processes.")
jax.config.config_with_absl()


def main() -> None:
    """Run the experiment that the flags describe."""
    # Imported late, so that errors in flags are reported at once.
    from mnist_jax import experiment
    from mnist_jax.devices import compiler, memory, processes

    memory.keep()
    config = experiment.parse(_CONFIG.value)
    compiler.keep_compiled()
    together = contextlib.nullcontext()
    others = {
        "coordinator": _COORDINATOR.value,
        "process_id": _PROCESS_ID.value,
        "num_processes": _NUM_PROCESSES.value,
    }
    if _DISTRIBUTED.value:
        if not _WORKDIR.value:
            raise UserError("--distributed needs --workdir, which all processes share.")
        together = processes.joined(**others)
    elif given := [name for name, value in others.items() if value is not None]:
        raise UserError(f"--{given[0]} needs --distributed.")
    with together, _run_folder(config.name) as flags.FLAGS.workdir:
        experiment.run(config, flags.FLAGS.workdir)


@contextlib.contextmanager
def _run_folder(name: str) -> Iterator[str]:
    """Yield --workdir, or a new folder, which is removed again if it stays empty."""
    if _WORKDIR.value:
        yield _WORKDIR.value
        return
    folder = outputs.new_folder(Path("runs") / name)
    try:
        yield str(folder)
    finally:
        with contextlib.suppress(OSError):  # it is not empty
            folder.rmdir()
