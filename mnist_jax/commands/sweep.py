"""Run one experiment with several seeds, and compare them.

  mnist-jax sweep --config=lenet5 --seeds=0-4 [--[no]together]
      [--workdir=FOLDER] [--config.FIELD=VALUE ...]

Seed k goes to <workdir>/seed<k>, a run folder as `mnist-jax train` makes it. The same
command again skips finished runs and resumes stopped ones. The seeds train
together, in one program, on an accelerator, and one after the other on a CPU.

The configs:

"""

import dataclasses
import re
import shlex
from pathlib import Path

import jax
from absl import flags
from ml_collections import config_flags
from rich.console import Console

from mnist_jax.commands import config_flag
from mnist_jax.config import ConfigError
from mnist_jax.console import LOGGER
from mnist_jax.errors import UserError

_CONFIG = config_flag.define()
_SEEDS = flags.DEFINE_string(
    "seeds", None, "The seeds: a range such as 0-4, or a list such as 0,3,7."
)
_WORKDIR = flags.DEFINE_string(
    "workdir", None, "The folder of the run folders. Default: runs/<config>/seeds."
)
_TOGETHER = flags.DEFINE_bool(
    "together",
    None,
    "Train all seeds in one program. The results are those of one seed after the "
    "other, up to rounding. Default: on an accelerator, not on a CPU.",
)
jax.config.config_with_absl()


def parse_seeds(text: str) -> list[int]:
    """Return the seeds that "0-4", "0,3,7", "0-2,5" or "5" means, in that order.

    Raises:
        ConfigError: the text is anything else, or names a seed twice.
    """
    seeds: list[int] = []
    for part in text.split(","):
        match = re.fullmatch(r"([0-9]+)(?:-([0-9]+))?", part.strip())
        first, last = (int(match[1]), int(match[2] or match[1])) if match else (1, 0)
        if not first <= last < 2**32:
            raise ConfigError(
                f"--seeds={text}: give a range such as 0-4 or a list such as 0,3,7, of "
                "seeds below 2**32."
            )
        seeds += range(first, last + 1)
    return list(dict.fromkeys(seeds))


def main() -> None:
    """Run the experiment of the flags with each of the seeds."""
    seeds = parse_seeds(_SEEDS.value or "")
    if "seed" in config_flags.get_override_values(flags.FLAGS["config"]):
        raise ConfigError("--seeds cannot go with --config.seed. Leave out one.")
    # Imported late: bad flags need not wait for them.
    from mnist_jax import experiment
    from mnist_jax.devices import compiler, memory, parallel
    from mnist_jax.report import compare
    from mnist_jax.report.compare import findings
    from mnist_jax.runs.folder import RunFolder
    from mnist_jax.training.trainer import NonFiniteLossError

    memory.keep()
    config = experiment.parse(_CONFIG.value)
    workdir = Path(_WORKDIR.value or Path("runs") / config.name / "seeds")
    flags.FLAGS.workdir = str(workdir)
    compiler.keep_compiled()
    folders = {seed: workdir / f"seed{seed}" for seed in seeds}
    for seed, folder in folders.items():  # before hours go into the first
        RunFolder(folder).check_config(dataclasses.replace(config, seed=seed))
    parallel.check_available()
    together = _TOGETHER.value
    if together is None:
        together = len(seeds) > 1 and jax.default_backend() != "cpu"
    outcomes = {}
    for group in [folders] if together else [{seed: folders[seed]} for seed in seeds]:
        names = f"Seed{'s' * (len(group) > 1)} {', '.join(map(str, group))}"
        LOGGER.info("--- %s", names)
        try:
            outcomes |= experiment.run_seeds(config, group)
        except NonFiniteLossError as error:
            LOGGER.error("%s: %s", names, error)
            outcomes |= dict.fromkeys(group, error)
        except UserError as error:
            raise UserError(f"{names}: {error}") from error
    failed = {s: e for s, e in outcomes.items() if isinstance(e, NonFiniteLossError)}
    if finished := [folders[seed] for seed in seeds if seed not in failed]:
        console = Console()
        console.print()
        findings.show(compare.read(finished), console)
        again = shlex.quote(str(workdir))
        LOGGER.info("\nThis table again: mnist-jax compare %s", again)
    if failed:
        raise UserError(
            "\n".join(f"Seed {seed}: {error}" for seed, error in failed.items())
        )
