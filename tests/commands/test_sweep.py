"""Sweeps over seeds as a user meets them, and pieces that need no process."""

import json
import re
import shlex
import signal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mnist_jax.commands import sweep
from mnist_jax.config import Data, Experiment
from mnist_jax.errors import UserError
from tests.conftest import LITTLE_OPTIMIZED
from tests.support import commands
from tests.support.commands import wait_for
from tests.support.runs import outcome

QUICK = (
    "--config=quickstart",
    "--config.phases[0].epochs=2",
    "--config.phases[0].batch_size=100",
)


def start(command_env, *arguments):
    """Start `python -m mnist_jax sweep ARGUMENTS`, do not wait."""
    env = command_env | LITTLE_OPTIMIZED | commands.WITHOUT_PICTURES
    return commands.start("mnist_jax", "sweep", *arguments, env=env)


def finish(command_env, *arguments):
    """Run `python -m mnist_jax sweep ARGUMENTS` to its end: exit status, output."""
    with start(command_env, *arguments) as process:
        output, _ = process.communicate()
    return process.returncode, output


@given(st.lists(st.integers(0, 2**32 - 1), min_size=1, max_size=10, unique=True))
def test_a_list_of_seeds_is_read_as_it_is_written(seeds):
    assert sweep.parse_seeds(",".join(map(str, seeds))) == seeds


@given(st.integers(0, 2**32 - 2000), st.integers(0, 999))
def test_a_range_of_seeds_holds_both_its_ends(first, more):
    seeds = list(range(first, first + more + 1))
    assert sweep.parse_seeds(f"{first}-{first + more}") == seeds


@pytest.mark.parametrize(
    "text", "| 1, | a | 1.5 | -1 | 0..3 | 0-1-2 | 4-0 | 4294967296".split("|")
)
def test_other_seeds_are_refused(text):
    with pytest.raises(UserError, match="give a range such as 0-4"):
        sweep.parse_seeds(text)


def test_each_value_has_a_config_of_its_own():
    found = sweep.vary(Experiment(), "phases[0].optimizer.learning_rate=1e-3, 2")
    rates = {value: c.phases[0].optimizer.learning_rate for value, c in found.items()}
    assert rates == {"1e-3": 1e-3, "2": 2.0}
    assert len({config.name for config in found.values()}) == 2
    found = sweep.vary(Experiment(), "data.train_size=100,200")
    assert [c.data.train_size for c in found.values()] == [100, 200]
    found = sweep.vary(Experiment(), "model.name=lenet5,fast_cnn")
    assert [c.model.name for c in found.values()] == ["lenet5", "fast_cnn"]


@pytest.mark.parametrize(
    "text",
    [
        *("val_size", "dtype=", "report_accuracy=1,,2", "sed=1", "data.x=1"),
        *("phases[1].epochs=2", "report_accuracy=a", "seed=1,2", "name=a,b"),
        *("data.dir=/x", "data.dir=a/../..", "data.dir=.."),
    ],
)
def test_other_values_are_refused(text):
    with pytest.raises(UserError, match=f"^--vary={re.escape(text)}: "):
        sweep.vary(Experiment(), text)


def test_a_seed_draws_its_training_images_unless_these_are_chosen(tmp_path):
    def drawn(**chosen):
        config = Experiment(data=Data(train_size=20, subset_seed=7))
        runs = sweep.plan(config, [3, 4], tmp_path, **chosen).values()
        return [(run.seed, run.data.subset_seed) for run in runs]

    assert drawn() == drawn(varied="data.val_size=9") == [(3, 3), (4, 4)]
    assert drawn(overrides=["data.subset_seed"]) == [(3, 7), (4, 7)]
    both = drawn(varied="data.subset_seed=0,1")
    assert both == [(3, 0), (4, 0), (3, 1), (4, 1)]


def test_bad_flags_are_one_clear_line(command_env, tmp_path):
    config, workdir = "--config=quickstart", f"--workdir={tmp_path / 'sweep'}"
    both = "--seeds cannot go with --config.seed"
    expected = [
        ([config, workdir], 2, "--seeds=: give a range"),
        ([config, workdir, "--config.seed=1", "--seeds=0-1"], 2, both),
        (["--seeds=0-1", workdir], 2, "--config is missing"),
        ([config, workdir, "--seeds", "0", "1"], 2, "argument '1'"),
    ]
    commands.check_lines("sweep", expected, env=command_env)
    assert not (tmp_path / "sweep").exists()


@pytest.fixture(scope="module")
def finished(tmp_path_factory, command_env):
    """An undisturbed sweep of two seeds."""
    folder = tmp_path_factory.mktemp("finished")
    arguments = (*QUICK, "--seeds=0,1", f"--workdir={folder}")
    code, output = finish(command_env, *arguments)
    assert code == 0, output
    return folder, output


@pytest.mark.slow
def test_a_sweep_ends_with_its_table(finished):
    folder, output = finished
    accuracies = [outcome(folder / f"seed{k}")[0]["test_accuracy"] for k in (0, 1)]
    assert accuracies[0] != accuracies[1]
    mean = f"{sum(accuracies) / 2:.4f}"
    assert re.search(rf"quickstart .* {mean} ± 0\.\d{{4}} +2 ", output)


@pytest.mark.slow
def test_a_run_of_a_sweep_names_the_command_that_makes_it(finished, command_env):
    folder, _ = finished
    files = [path for path in folder.rglob("*") if path.is_file()]
    before = {path: path.stat().st_mtime_ns for path in files}
    written = json.loads((folder / "seed1" / "environment.json").read_text())
    _, _, arguments = written["command"].partition(" sweep ")
    code, output = finish(command_env, *shlex.split(arguments))
    assert code == 0 and output.count("is finished: nothing to do") == 2
    assert {path: path.stat().st_mtime_ns for path in files} == before


@pytest.mark.slow
def test_a_sweep_together_is_interrupted_and_resumed(finished, command_env, tmp_path):
    """To the accuracies of one seed after the other; ctrl-C names the command."""
    arguments = (*QUICK, "--seeds=0-1", "--together", f"--workdir={tmp_path}")
    with start(command_env, *arguments) as process:
        wait_for(process, r"^Seed 0: epoch +1 ")
        process.send_signal(signal.SIGINT)
        output, _ = process.communicate()
    assert process.returncode == 130
    match = re.search(r"To resume: .* sweep (.*)", output)
    assert match and shlex.split(match[1]) == list(arguments), output
    code, output = finish(command_env, *arguments)
    assert code == 0, output
    for name in ("seed0", "seed1"):
        ours, theirs = outcome(tmp_path / name)[0], outcome(finished[0] / name)[0]
        assert ours["test"]["last"]["confusion"] == theirs["test"]["last"]["confusion"]


@pytest.mark.slow
def test_a_varied_field_is_that_of_a_run_with_its_override(command_env, tmp_path):
    """With training images that the seed draws."""
    vary = ("--vary=data.train_size=200,300", "--seeds=3", f"--workdir={tmp_path}/all")
    code, output = finish(command_env, *QUICK, *vary)
    assert code == 0, output
    sizes = (f"--config.data.{field}" for field in ("train_size=200", "subset_seed=3"))
    own = ("--seeds=3", *sizes, f"--workdir={tmp_path}/one")
    assert finish(command_env, *QUICK, *own)[0] == 0
    one, other = (
        outcome(tmp_path / folder / "seed3")[0]["parameters_sha256"]
        for folder in ("all/200", "one")
    )
    assert one == other
    code, output = finish(command_env, *QUICK, *vary)
    assert code == 0 and output.count("is finished: nothing to do") == 2


@pytest.mark.parametrize(
    ("flag", "message", "seeds"),
    [
        ("--config.phases[0].optimizer.learning_rate=1e38", "The training loss ", 2),
        ("--config.data.val_size=1438", "--config.data.val_size=1438", 1),
    ],
)
def test_seeds_that_fail_are_named(command_env, tmp_path, flag, message, seeds):
    """The next one is trained, unless it would fail for the same reason."""
    arguments = (*QUICK, flag, "--seeds=4,5", f"--workdir={tmp_path}")
    code, output = finish(command_env, *arguments)
    assert code == 1 and "Traceback" not in output
    _, _, error = output.partition("Error: ")
    assert re.match(rf"Seed 4: .*{message}", error)
    assert error.count("Seed ") == seeds
