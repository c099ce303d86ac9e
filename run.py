"""Train and test the network that a config describes.

  python run.py --config=configs/lenet5.py [--config.FIELD=VALUE ...] [--workdir=FOLDER]

Repeat the command with the same --workdir to resume a run that was stopped.
`mnist-jax fields` lists every field, docs/scaling.md explains several processes.
The configs:

"""

from mnist_jax import commands
from mnist_jax.devices import memory

if __name__ == "__main__":  # before slow imports
    commands.exit_on_interrupt()
    memory.keep()

import contextlib
import datetime
from pathlib import Path

import jax
from absl import flags

from mnist_jax.commands import cli, config_flag
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


def default_workdir(name: str) -> Path:
    """Return a folder for a new run of the config with this name."""
    now = datetime.datetime.now().strftime("%Y-%m-%d_%H-%M-%S")
    folder, attempt = Path("runs") / name / now, 1
    while folder.exists():  # another run started in the same second
        attempt += 1
        folder = folder.with_name(f"{now}-{attempt}")
    return folder


def main() -> None:
    """Run the experiment that the flags describe."""
    # Imported late, so that errors in flags are reported at once.
    from mnist_jax import experiment
    from mnist_jax.devices import compiler, processes

    config = experiment.parse(_CONFIG.value)
    flags.FLAGS.workdir = _WORKDIR.value or str(default_workdir(config.name))
    compiler.keep_compiled()
    others = {
        "coordinator": _COORDINATOR.value,
        "process_id": _PROCESS_ID.value,
        "num_processes": _NUM_PROCESSES.value,
    }
    together = contextlib.nullcontext()
    if _DISTRIBUTED.value:
        together = processes.joined(**others)
    elif given := [name for name, value in others.items() if value is not None]:
        raise UserError(f"--{given[0]} needs --distributed.")
    with together:
        experiment.run(config, flags.FLAGS.workdir)


def how_to_resume() -> str:
    """Return the command that resumes this run."""
    return cli.command_with(workdir=flags.FLAGS.workdir)


if __name__ == "__main__":
    cli.run(
        main,
        usage=__doc__ or "",
        takes_config=True,
        how_to_resume=how_to_resume,
    )
