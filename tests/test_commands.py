"""run.py as a user meets it: in a process of its own, with good and bad input."""

import json
import os
import random
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.support import commands
from tests.support.commands import run_each, wait_for
from tests.test_experiment import metrics_without_times, outcome

QUICK = (
    "--config=configs/quickstart.py",
    "--config.phases[0].epochs=4",
    "--config.phases[0].batch_size=100",
)


def start(command_env, *arguments, **options):
    """Start `python run.py ARGUMENTS`, do not wait."""
    return commands.start("run.py", *arguments, env=command_env, **options)


def run(env, *arguments):
    """Run `python run.py ARGUMENTS` to its end."""
    return commands.run("run.py", *arguments, env=env)


def run_in_own_process(env, *arguments, cwd=ROOT):
    """Run `python run.py ARGUMENTS` to its end, from the start of Python on."""
    ended = subprocess.run(
        [sys.executable, str(ROOT / "run.py"), *arguments],
        cwd=cwd,
        env=env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=240,
    )
    assert ended.returncode == 0, ended.stdout
    return ended.stdout


@pytest.fixture(scope="module")
def users_env(tmp_path_factory, command_env):
    """The environment of a user, who has a cache folder."""
    # Without the second, JAX would not find its programs in a copy of the folder.
    needed = "JAX_PLATFORMS", "JAX_PERSISTENT_CACHE_ENABLE_XLA_CACHES"
    env = {
        name: value
        for name, value in command_env.items()
        if not name.startswith("JAX_") or name in needed
    }
    return env | {"XDG_CACHE_HOME": str(tmp_path_factory.mktemp("cache"))}


@pytest.fixture(scope="module")
def plain_env(command_env):
    """For runs whose pictures do not matter."""
    return command_env | commands.WITHOUT_PICTURES


@pytest.fixture(scope="module")
def finished(tmp_path_factory, users_env, command_env):
    """A run that nobody disturbed, with a relative workdir in another folder."""
    here = tmp_path_factory.mktemp("finished")
    arguments = (f"--config={ROOT}/configs/quickstart.py", *QUICK[1:])
    output = run_in_own_process(users_env, *arguments, "--workdir=here/run", cwd=here)
    # The next runs need not compile the same again.
    shutil.copytree(
        Path(users_env["XDG_CACHE_HOME"]) / "mnist_jax" / "compiled",
        command_env["JAX_COMPILATION_CACHE_DIR"],
        dirs_exist_ok=True,
    )
    return here / "here" / "run", output


def test_a_run_says_what_it_got_and_where(finished):
    folder, output = finished
    results = json.loads((folder / "results.json").read_text())
    assert f"Test accuracy {results['test_accuracy']:.4f}" in output
    assert str(folder / "figures") in output
    assert output.strip().endswith(str(folder / "report.html"))
    # No terminal: one line an epoch, and no bar.
    assert len(re.findall(r"^epoch +\d", output, re.MULTILINE)) == 4
    assert "\r" not in output and "\x1b" not in output
    assert "Test accuracy" in (folder / "log.txt").read_text()


def test_a_finished_run_says_so_and_takes_no_other_config(
    finished, command_env, tmp_path
):
    folder, _ = finished
    before = outcome(folder)
    flag = f"--workdir={folder}"
    cases = [[*QUICK, flag], [*QUICK, "--config.seed=7", flag]]
    same, other = run_each("run.py", cases, env=command_env)
    assert same.returncode == 0
    assert "is finished: nothing to do" in same.stdout
    assert other.returncode == 1
    assert "seed: 0 there, 7 now" in other.stderr
    assert "Traceback" not in other.stderr
    assert outcome(folder) == before


def test_a_relative_workdir_is_relative_to_where_one_stands(finished):
    folder, _ = finished
    assert (folder / "report.md").exists()
    assert list(folder.parents[1].iterdir()) == [folder.parent]


def test_helpshort_lists_the_configs(run_command):
    result = run_command("--helpshort")
    for path in (ROOT / "configs").glob("*.py"):
        if path.stem not in ("base", "__init__"):
            assert f"configs/{path.name}" in result.stdout
    assert "--workdir" in result.stdout


VAL_SIZE, DIGITS = "--config.data.val_size=1438", "--config.data.source=digits"
USAGE = [
    ([], "--config is missing.*configs/lenet5.py"),
    (["--config=configs/nope.py"], "configs/nope.py: no such file.*configs/lenet5.py"),
    (["--config=configs"], "no such file"),
    (["--config.seed=1", "--config=configs/quickstart.py"], "before a value for"),
    (["--config=configs/quickstart.py", "--config.sed=1"], 'Did you mean "seed"'),
    (
        ["--config=configs/quickstart.py", "--config.phases[0].epoch=1"],
        'Did you mean "epochs"',
    ),
    (["--config=configs/quickstart.py", "--config.phases[3].epochs=1"], "no entry 3"),
    (["--config=configs/quickstart.py", "--config.seed=x"], "invalid literal"),
    (["--config=configs/quickstart.py", "--config.seed"], "Missing value"),
    (["--config=configs/quickstart.py", "--config.data.dir"], "Missing value"),
    (["--config=configs/quickstart.py", "--confg.seed=1"], "Unknown command line flag"),
    (["--config=configs/quickstart.py:tuned"], r"no such variant .*\(it has none\)"),
    (["--config=configs/lenet5.py:tund"], r"no such variant .*\(known: tuned\)"),
    (["--config=configs/quickstart.py", "seed=1"], "Unexpected argument 'seed=1'"),
    (
        ["--config=configs/quickstart.py", "--epochs=3"],
        r"flag 'epochs'. Did you mean --config.phases\[0\].epochs\?",
    ),
    (
        ["--config=configs/quickstart.py", "--batch-size=3"],
        r"flag 'batch-size'. Did you mean --config.phases\[0\].batch_size\? --help",
    ),
    (["--config=configs/quickstart.py", "--wokdir=x"], r"Did you mean --workdir\?"),
    (
        ["--config=configs/quickstart.py", "--config.phases[0].epochs=0"],
        r"--config.phases\[0\].epochs=0: must be at least 1.",
    ),
]
# Flags that are read, and then refused for what they say.
REFUSED = [
    (["--config=configs/quickstart.py", VAL_SIZE], VAL_SIZE),
    # For its data, not for its name: the variant is found.
    (["--config=configs/lenet5.py:tuned", DIGITS, VAL_SIZE], VAL_SIZE),
    *(
        (
            ["--config=configs/quickstart.py", f"--jax_platforms={platform}"],
            f"no device.*{platform}.*--jax_platforms=cpu",
        )
        for platform in ("abacus", "rocm")
    ),
    # Below a file, since tests may run as root, whom no permission stops.
    (
        ["--config=configs/quickstart.py", f"--workdir={ROOT / 'run.py' / 'run'}"],
        "Cannot write.*--workdir",
    ),
]


@pytest.fixture(scope="module")
def refused(command_env, tmp_path_factory):
    """What each of `USAGE` and `REFUSED` ends with; the folder that none may make."""
    folder = tmp_path_factory.mktemp("refused")
    flag = f"--workdir={folder / 'run'}"
    given = [flags for flags, _ in USAGE + REFUSED]
    cases = [[*flags[:1], flag, *flags[1:]] if flags else [] for flags in given]
    results = run_each("run.py", cases, env=command_env)
    return results, folder / "run"


@pytest.mark.parametrize(
    "case",
    range(len(USAGE + REFUSED)),
    ids=lambda n: " ".join((USAGE + REFUSED)[n][0]),
)
def test_bad_flags_are_one_clear_line(refused, case):
    results, workdir = refused
    result, message = results[case], (USAGE + REFUSED)[case][1]
    assert result.returncode == (2 if case < len(USAGE) else 1), result.stderr
    assert re.search(message, result.stderr), result.stderr
    assert len(result.stderr.strip().splitlines()) == 1, result.stderr
    assert not workdir.exists()


INTERRUPT = """
import os, runpy, signal, sys
class Interrupt:
    def find_spec(self, name, path=None, target=None):
        if name == "jax":
            os.kill(os.getpid(), signal.SIGINT)
signal.signal(signal.SIGINT, signal.default_int_handler)
sys.meta_path.insert(0, Interrupt())
sys.path.insert(0, "")
runpy.run_module(sys.argv.pop(1), run_name="__main__", alter_sys=True)
"""


@pytest.mark.parametrize("command", [["run"], ["mnist_jax", "sweep"]])
def test_ctrl_c_during_the_imports_is_one_line(command_env, command):
    """Sent as the import of JAX begins."""
    result = subprocess.run(
        [sys.executable, "-c", INTERRUPT, *command, *QUICK],
        cwd=ROOT,
        env=command_env,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert result.returncode == 130
    assert result.stderr == "\nStopped.\n"


@pytest.mark.slow
@pytest.mark.parametrize(
    "limit", [pytest.param(3_000, marks=pytest.mark.exhaustive), 100_000]
)
def test_a_full_disk_is_told_and_the_run_goes_on_when_there_is_room(
    finished, command_env, plain_env, tmp_path, limit
):
    """A limit on the size of files stands for the end of the disk.

    The smaller one hits the first figure, the larger one a checkpoint.
    """

    # Compiled programs are files too: a copy, which may be spoilt, of what is there.
    kept = shutil.copytree(command_env["JAX_COMPILATION_CACHE_DIR"], tmp_path / "kept")
    env = command_env | {"JAX_COMPILATION_CACHE_DIR": str(kept)}
    tmp_path = tmp_path / "run"
    with start(env, *QUICK, f"--workdir={tmp_path}", file_size=limit) as process:
        output, _ = process.communicate()
    assert process.returncode == 1, output
    assert "File too large" in output or "EFBIG" in output, output
    assert "Traceback" not in output
    assert not list(tmp_path.rglob("*.tmp"))
    result = run(plain_env, *QUICK, f"--workdir={tmp_path}")
    assert result.returncode == 0, result.stderr
    assert outcome(tmp_path) == outcome(finished[0])


@pytest.mark.slow
def test_an_interrupted_run_says_how_to_go_on_and_does(finished, plain_env, tmp_path):
    """After SIGTERM in epoch 2 and ctrl-C in epoch 3, each time as it was told."""
    arguments = [str(ROOT / "run.py"), *QUICK, f"--workdir={tmp_path}"]
    for number, code, epoch in ((signal.SIGTERM, 143, 1), (signal.SIGINT, 130, 2)):
        with start(plain_env, *arguments[1:]) as process:
            wait_for(process, rf"^epoch +{epoch} ")
            process.send_signal(number)
            output, _ = process.communicate()
        assert process.returncode == code, output
        assert "Traceback" not in output
        match = re.search(r"To resume: python (.*)", output)
        assert match, output
        arguments = shlex.split(match[1])
    with start(plain_env, *arguments[1:]) as process:
        output, _ = process.communicate()
    assert process.returncode == 0, output
    assert re.search(r"Going on after epoch [23]", output)
    assert outcome(tmp_path) == outcome(finished[0])


@pytest.mark.slow
def test_two_processes_in_one_folder_the_second_is_refused(
    finished, plain_env, tmp_path
):
    with start(plain_env, *QUICK, f"--workdir={tmp_path}") as first:
        wait_for(first, "Run folder")
        first.send_signal(signal.SIGSTOP)  # not to be done before the second begins
        second = run(plain_env, *QUICK, f"--workdir={tmp_path}")
        first.send_signal(signal.SIGCONT)
        first.communicate()
    assert first.returncode == 0
    assert second.returncode == 1
    assert "Another process is working" in second.stderr
    assert outcome(tmp_path) == outcome(finished[0])


def leftovers(folder):
    """What a kill leaves behind, and the run that goes on has to tidy up."""
    return [p for p in folder.rglob("*") if p.name.endswith((".tmp", "-tmp"))]


@pytest.mark.slow
@pytest.mark.exhaustive
def test_runs_killed_at_random_moments_end_as_if_never_killed(
    finished, command_env, tmp_path
):
    """SIGKILL, at a moment drawn from the whole length of a run, again and again.

    KILLS says how many runs (of one to three kills each); 1 if it is not set.
    """
    whole = time.perf_counter()
    with start(command_env, *QUICK, f"--workdir={tmp_path / 'timed'}") as process:
        process.communicate()
    whole = time.perf_counter() - whole
    draw = random.Random(0)
    for run in range(int(os.environ.get("KILLS", "1"))):
        folder: Path = tmp_path / f"killed-{run}"
        moments = [draw.uniform(0, whole) for _ in range(draw.randint(1, 3))]
        for moment in moments:
            with start(command_env, *QUICK, f"--workdir={folder}") as process:
                time.sleep(moment)
                process.kill()
        with start(command_env, *QUICK, f"--workdir={folder}") as process:
            output, _ = process.communicate()
        assert process.returncode == 0, (moments, output)
        assert outcome(folder) == outcome(finished[0]), moments
        assert not leftovers(folder), moments


@pytest.mark.slow
def test_a_damaged_last_checkpoint_is_told_and_survived(finished, plain_env, tmp_path):
    with start(plain_env, *QUICK, f"--workdir={tmp_path}") as process:
        wait_for(process, r"^epoch +3 ")
        process.kill()
    last = max((tmp_path / "checkpoints" / "last").iterdir(), key=lambda p: int(p.name))
    for file in last.rglob("*"):
        if file.is_file():
            file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    result = run(plain_env, *QUICK, f"--workdir={tmp_path}")
    assert result.returncode == 0, result.stderr
    assert f"checkpoint of epoch {last.name} is damaged" in result.stdout
    assert outcome(tmp_path) == outcome(finished[0])
    assert len(metrics_without_times(tmp_path)) == 8
    assert not leftovers(tmp_path)


def test_layers_are_frozen_and_slowed_down_by_name(command_env, tmp_path):
    """Said before the first step: nothing has to be trained."""
    flags = (
        """--config.phases[0].freeze=("conv[1]",)""",
        """--config.phases[0].layer_rates=("conv2/kernel=0.1", "dense=0.5")""",
        f"--workdir={tmp_path / 'run'}",
    )
    with start(command_env, *QUICK, *flags) as process:
        output = wait_for(process, r"^\s*dense2 +0\.5$")
        process.kill()
    said = [line.split() for line in output.splitlines()]
    assert ["conv1", "0", "156"] in said and ["conv2", "2,416", "0"] in said
    assert ["conv2", "0.1,", "1"] in said


@pytest.mark.slow
def test_a_run_with_kept_programs_ends_as_one_without(finished, users_env, tmp_path):
    folder = Path(users_env["XDG_CACHE_HOME"]) / "mnist_jax" / "compiled"
    [step] = folder.glob("jit_train_steps-*-cache")
    written = step.stat().st_mtime_ns
    env = users_env | commands.WITHOUT_PICTURES
    result = run(env, *QUICK, f"--workdir={tmp_path}")
    assert "Compiled in" in result.stdout, result.stderr
    assert outcome(tmp_path) == outcome(finished[0])
    assert list(folder.glob("jit_train_steps-*-cache")) == [step]
    assert step.stat().st_mtime_ns == written
