"""`mnist-jax train` and run.py: whole runs, interruptions and bad input."""

import json
import re
import shlex
import shutil
import signal
import subprocess
import sys
from concurrent import futures

import pytest

from mnist_jax.commands import outputs
from tests.conftest import LITTLE_OPTIMIZED, ROOT
from tests.support import commands
from tests.support.commands import run_each, wait_for
from tests.support.runs import outcome

QUICK = (
    "--config=quickstart",
    "--config.phases[0].epochs=4",
    "--config.phases[0].batch_size=100",
)


def start(command_env, *arguments, **options):
    return commands.start("mnist_jax", "train", *arguments, env=command_env, **options)


def run(env, *arguments):
    return commands.run("mnist_jax", "train", *arguments, env=env)


@pytest.fixture(scope="module")
def command_env(command_env):
    """Runs that are compared, bit for bit, are all compiled in this way."""
    return command_env | LITTLE_OPTIMIZED


@pytest.fixture(scope="module")
def plain_env(command_env):
    """For runs whose pictures do not matter."""
    return command_env | commands.WITHOUT_PICTURES


@pytest.fixture(scope="module")
def finished(tmp_path_factory, command_env):
    """An undisturbed run, by run.py, in its default folder somewhere else."""
    here = tmp_path_factory.mktemp("finished")
    program = str(ROOT / "run.py")
    ended = commands.run(program, *QUICK, env=command_env, cwd=here)
    assert ended.returncode == 0, ended.stderr
    [folder] = (here / "runs" / "quickstart").iterdir()
    return folder, ended.stdout


def test_a_run_says_what_it_got_and_where(finished):
    folder, output = finished
    results = json.loads((folder / "results.json").read_text())
    assert f"Test accuracy {results['test_accuracy']:.4f}" in output
    here = folder.parents[2]
    assert output.strip().endswith(str(folder.relative_to(here) / "report.html"))
    # No terminal: no bar.
    assert "\r" not in output and "\x1b" not in output


def test_a_finished_run_says_so_and_takes_no_other_config(finished, command_env):
    folder, _ = finished
    before = outcome(folder)
    flag = f"--workdir={folder}"
    cases = [["train", *QUICK, flag], ["train", *QUICK, "--config.seed=7", flag]]
    same, other = run_each("mnist_jax", cases, env=command_env)
    assert same.returncode == 0
    assert "is finished: nothing to do" in same.stdout
    assert other.returncode == 1
    assert "seed: 0 there, 7 now" in other.stderr
    assert outcome(folder) == before


def test_runs_of_the_same_second_have_folders_of_their_own(tmp_path):
    with futures.ThreadPoolExecutor(8) as pool:
        folders = list(pool.map(outputs.new_folder, [tmp_path / "runs" / "x"] * 40))
    assert len({*folders}) == 40 and all(folder.is_dir() for folder in folders)


QUICKSTART, VAL_SIZE = "--config=quickstart", "--config.data.val_size=1438"
USAGE = [
    ([], 2, "--config is missing. Known: .*lenet5"),
    (["--config.seed=1", QUICKSTART], 2, "before a value for"),
    ([QUICKSTART, "--config.sed=1"], 2, "No such field: .*Did you mean .seed."),
    ([QUICKSTART, "--config.phase[0].epochs=2"], 2, "No such field: .*phase"),
    ([QUICKSTART, "--config.seed=x"], 2, "invalid literal"),
    ([QUICKSTART, "--config.phases[5].epochs=2"], 2, "out of range"),
    ([QUICKSTART, "--config.=3"], 2, "Could not parse"),
    (["--config=\x1b[31m"], 2, r"--config=\\x1b\[31m: no such"),
    (["--config=lenet5:tund"], 2, r"no such variant .*\(known: tuned"),
    ([QUICKSTART, "seed=1"], 2, "Unexpected argument 'seed=1'"),
    ([QUICKSTART, "--batch-size=3"], 2, "Unknown flag --batch-size. .*--config.FIELD"),
    ([QUICKSTART, f"--{'x' * 5000}"], 2, "longer than any flag"),
    ([QUICKSTART, "--config.phases[0].epochs=0"], 2, "epochs=0: must be at least 1."),
    # For its data, not for its name: the variant is found.
    (["--config=lenet5:tuned", "--config.data.source=digits", VAL_SIZE], 1, VAL_SIZE),
    ([QUICKSTART, "--jax_platforms=abacus"], 1, "no device.*abacus.*_platforms=cpu"),
    # Below a file, since tests may run as root, whom no permission stops.
    ([QUICKSTART, f"--workdir={ROOT}/run.py/run"], 1, "Cannot write.*--workdir"),
]


def test_bad_flags_are_one_clear_line(command_env, tmp_path):
    commands.check_lines("train", USAGE, env=command_env, cwd=tmp_path)
    assert not list(tmp_path.rglob("20*"))  # no folder of a run is left


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


@pytest.mark.parametrize("command", [["run"], ["mnist_jax", "train"]])
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
def test_a_full_disk_is_reported_and_the_run_resumes_when_there_is_room(
    finished, command_env, plain_env, tmp_path
):
    """A limit on the size of files stands for the end of the disk."""
    # Compiled programs are files too: a copy of them, which may be damaged.
    kept = shutil.copytree(command_env["JAX_COMPILATION_CACHE_DIR"], tmp_path / "kept")
    env = command_env | {"JAX_COMPILATION_CACHE_DIR": str(kept)}
    tmp_path = tmp_path / "run"
    with start(env, *QUICK, f"--workdir={tmp_path}", file_size=100_000) as process:
        output, _ = process.communicate()
    assert process.returncode == 1, output
    assert "File too large" in output or "EFBIG" in output, output
    assert not list(tmp_path.rglob("*.tmp"))
    result = run(plain_env, *QUICK, f"--workdir={tmp_path}")
    assert result.returncode == 0, result.stderr
    assert outcome(tmp_path) == outcome(finished[0])


@pytest.mark.slow
def test_an_interrupted_run_says_how_to_go_on_and_does(finished, plain_env, tmp_path):
    """After SIGTERM in epoch 2 and ctrl-C in epoch 3, each time as it was told."""
    arguments = [*QUICK, f"--workdir={tmp_path}"]
    for number, code, epoch in ((signal.SIGTERM, 143, 1), (signal.SIGINT, 130, 2)):
        with start(plain_env, *arguments) as process:
            wait_for(process, rf"^epoch +{epoch} ")
            process.send_signal(number)
            output, _ = process.communicate()
        assert process.returncode == code, output
        match = re.search(r"To resume: .* train (.*)", output)
        assert match, output
        arguments = shlex.split(match[1])
    ended = run(plain_env, *arguments)
    assert ended.returncode == 0, ended
    assert outcome(tmp_path) == outcome(finished[0])
