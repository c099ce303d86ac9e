"""Train and test the network that a config describes.

  python run.py --config=configs/lenet5.py [--config.FIELD=VALUE ...] [--workdir=FOLDER]

The same command with the same --workdir goes on with a run that was stopped.
`mnist-jax fields` lists every field, docs/scaling.md explains several processes.
The configs:

"""

from mnist_jax import commands
from mnist_jax.devices import memory

if __name__ == "__main__":  # before imports that take time
    commands.exit_on_interrupt()
    memory.keep()  # may start the process anew

import contextlib
import datetime
from pathlib import Path

import jax
from absl import flags

from mnist_jax.commands import cli, config_flag

_CONFIG = config_flag.define()
_WORKDIR = flags.DEFINE_string(
    "workdir", None, "The run folder. Default: runs/<config>/<date-time>."
)
_DISTRIBUTED = flags.DEFINE_bool(
    "distributed", False, "One of several processes that train together."
)
_COORDINATOR = flags.DEFINE_string(
    "coordinator", None, "HOST:PORT of process 0, if the environment does not say it."
)
_PROCESS_ID = flags.DEFINE_integer("process_id", None, "Which process this is, from 0.")
_NUM_PROCESSES = flags.DEFINE_integer("num_processes", None, "How many there are.")
_MEETING = flags.DEFINE_integer(
    "meeting_timeout", 300, "Seconds to wait for the other processes at the start."
)
cli.define_keep_memory()
jax.config.config_with_absl()


def default_workdir(name: str) -> Path:
    """Return a folder for a new run of the config of this name."""
    now = datetime.datetime.now().strftime("%Y-%m-%d_%H-%M-%S")
    folder = Path("runs") / name / now
    attempt = 1
    while folder.exists():  # two runs started in the same second
        attempt += 1
        folder = folder.with_name(f"{now}-{attempt}")
    return folder


def main() -> None:
    """Run the experiment of the flags."""
    # Imported late: bad flags need not wait for them.
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
    if _DISTRIBUTED.value:
        together = processes.joined(**others, timeout=_MEETING.value)
    else:
        processes.check_alone(others)
        together = contextlib.nullcontext()
    with together:
        experiment.run(config, flags.FLAGS.workdir)


def how_to_resume() -> str:
    """Return the command that goes on with this run."""
    return cli.command_with(workdir=flags.FLAGS.workdir)


if __name__ == "__main__":
    cli.run(
        main,
        usage=__doc__ or "",
        takes_config=True,
        how_to_resume=how_to_resume,
    )
