"""Run one experiment with several seeds, or values of a field.

  mnist-jax sweep --config=lenet5 --seeds=0-4 [--vary=FIELD=VALUE,VALUE,...]
      [--[no]together] [--workdir=FOLDER] [--config.FIELD=VALUE ...]

Seed k goes to <workdir>/seed<k>, a run folder as `mnist-jax train` makes it,
or to <workdir>/<value>/seed<k>. The same command again skips finished runs and
resumes stopped ones. The seeds train together, in one program, on an
accelerator, and one after the other on a CPU. With data.train_size, each seed
draws its own training images.
"""

import ast
import contextlib
import dataclasses
import re
import shlex
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
from absl import flags
from ml_collections import config_flags

from mnist_jax import files
from mnist_jax.commands import config_flag
from mnist_jax.config import ConfigError, Experiment, to_json
from mnist_jax.console import LOGGER, output
from mnist_jax.errors import UserError

_CONFIG = config_flag.define()
_SEEDS = flags.DEFINE_string(
    "seeds", None, "The seeds: a range such as 0-4, or a list such as 0,3,7."
)
_VARY = flags.DEFINE_string(
    "vary",
    None,
    "A field and its values, such as data.train_size=100,300,1000: every seed is "
    "trained with each of them.",
)
_WORKDIR = flags.DEFINE_string(
    "workdir",
    None,
    "The folder of the run folders. Default: runs/<config>/seeds or, with --vary, "
    "runs/<config>/<field>.",
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


def vary(config: Experiment, text: str) -> dict[str, Experiment]:
    """Return an experiment for each value of "FIELD=VALUE,VALUE,...", by the value.

    Their names say the value, so that each has its own row.

    Raises:
        ConfigError: the text is anything else, there is no such field, or it cannot
            have such a value.
    """
    from mnist_jax import experiment  # imported late, as in `main`

    field, equals, values = text.partition("=")
    if field in ("name", "seed"):
        raise ConfigError(f"--vary={text}: the sweep itself sets {field}.")
    varied: dict[str, Experiment] = {}
    for value in map(str.strip, values.split(",")):
        if not (equals and value):
            raise ConfigError(f"--vary={text}: give FIELD=VALUE,VALUE,...")
        if "/" in value or value.strip(".") == "":
            raise ConfigError(
                f"--vary={text}: {value} cannot be the name of a folder in --workdir. "
                "Give values without slashes."
            )
        fields = to_json(config)
        *path, last = re.findall(r"[^.\[\]]+", field) or [field]
        try:
            section: Any = fields
            for key in path:
                section = section[int(key) if isinstance(section, list) else key]
            section[last]
        except (IndexError, KeyError, TypeError, ValueError) as error:
            raise ConfigError(
                f"--vary={text}: there is no such field. `mnist-jax fields` lists them."
            ) from error
        section[last] = value
        with contextlib.suppress(ValueError, SyntaxError):
            section[last] = ast.literal_eval(value)
        fields["name"] = f"{config.name}-{last}={value}"
        try:
            varied[value] = experiment.parse(fields)
        except ConfigError as error:
            raise ConfigError(f"--vary={text}: {error}") from error
    return varied


def plan(
    config: Experiment,
    seeds: Sequence[int],
    workdir: Path,
    *,
    varied: str = "",
    overrides: Collection[str] = (),
) -> dict[Path, Experiment]:
    """Return the experiment of each run folder.

    Args:
        config: the experiment.
        seeds: each is also that of the training images, unless these are chosen.
        workdir: the folder of the run folders.
        varied: the text for `vary`, if any.
        overrides: the fields that flags have set.

    Raises:
        ConfigError: as in `vary`.
    """
    draws = "data.subset_seed" not in {*overrides, varied.partition("=")[0]}
    runs: dict[Path, Experiment] = {}
    for value, each in (vary(config, varied) if varied else {"": config}).items():
        for seed in seeds:
            seeded = dataclasses.replace(each, seed=seed)
            if each.data.train_size and draws:
                drawn = dataclasses.replace(each.data, subset_seed=seed)
                seeded = dataclasses.replace(seeded, data=drawn)
            runs[workdir / value / f"seed{seed}"] = seeded
    return runs


def main() -> None:
    """Run the experiment of the flags with each of the values and the seeds."""
    seeds = parse_seeds(_SEEDS.value or "")
    overrides = config_flags.get_override_values(flags.FLAGS["config"])
    if "seed" in overrides:
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
    part = (_VARY.value or "seeds").partition("=")[0]
    workdir = files.expand(_WORKDIR.value or Path("runs") / config.name / part)
    flags.FLAGS.workdir = str(workdir)
    compiler.keep_compiled()
    runs = plan(config, seeds, workdir, varied=_VARY.value or "", overrides=overrides)
    for folder, config in runs.items():  # before hours go into the first
        RunFolder(folder).check_config(config)
    parallel.check_available()
    together = _TOGETHER.value
    if together is None:
        together = len(seeds) > 1 and jax.default_backend() != "cpu"
    failed: dict[Path, str] = {}
    for group in _groups(runs, together=together):
        config = next(iter(group.values()))
        folders = {each.seed: folder for folder, each in group.items()}
        of = f"{config.name}: " if _VARY.value else ""
        names = f"{of}Seed{'s' * (len(folders) > 1)} {', '.join(map(str, folders))}"
        LOGGER.info("--- %s", names)
        try:
            outcomes = experiment.run_seeds(config, folders)
        except NonFiniteLossError as error:
            outcomes = dict.fromkeys(folders, error)
        except UserError as error:
            raise UserError(f"{names}: {error}") from error
        for seed, outcome in outcomes.items():
            if isinstance(outcome, NonFiniteLossError):
                failed[folders[seed]] = f"{of}Seed {seed}: {outcome}"
                LOGGER.error(failed[folders[seed]])
    if finished := [folder for folder in runs if folder not in failed]:
        print()
        findings.show(compare.read(finished), output())
        LOGGER.info("\nThis table: mnist-jax compare %s", shlex.quote(str(workdir)))
    if failed:
        raise UserError("\n".join(failed.values()))


def _groups(
    runs: Mapping[Path, Experiment], *, together: bool
) -> list[dict[Path, Experiment]]:
    """Group runs that can be trained together, which differ only in their seeds."""
    groups: dict[Any, dict[Path, Experiment]] = {}
    for folder, config in runs.items():
        key = repr(dataclasses.replace(config, seed=0)) if together else folder
        groups.setdefault(key, {})[folder] = config
    return list(groups.values())
