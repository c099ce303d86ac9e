"""Several processes as a user starts them, on this machine, and what they refuse."""

import contextlib
import signal
import socket

import numpy as np
import pytest

from mnist_jax.devices import processes
from mnist_jax.errors import UserError
from tests.conftest import LITTLE_OPTIMIZED
from tests.support.commands import WITHOUT_PICTURES, run, start, wait_for
from tests.support.runs import outcome

QUICK = (
    "--config=configs/quickstart.py",
    "--config.phases[0].epochs=3",
    "--config.phases[0].batch_size=100",
    "--config.augment.rotation=10",
)


@pytest.fixture(scope="module")
def env(command_env):
    fast = LITTLE_OPTIMIZED | WITHOUT_PICTURES
    return command_env | fast | {"JAX_PLATFORMS": "cpu"}


@pytest.fixture
def start_two(env, tmp_path):
    """Start `python run.py` twice, as process 0 and 1 of a run in `tmp_path / "run"`.

    Process 1 is told of a folder of its own, which it has no business to make.
    """
    with contextlib.ExitStack() as stack:

        def start_both(*arguments, only_second=()):
            with socket.socket() as free:
                free.bind(("127.0.0.1", 0))
                port = free.getsockname()[1]
            shared = (
                *arguments,
                "--distributed",
                f"--coordinator=127.0.0.1:{port}",
                "--num_processes=2",
            )
            own = [
                ("--process_id=0", f"--workdir={tmp_path / 'run'}"),
                ("--process_id=1", f"--workdir={tmp_path / 'other'}", *only_second),
            ]
            both = [start("run.py", *shared, *flags, env=env) for flags in own]
            for process in both:
                stack.callback(process.wait)
                stack.callback(process.kill)
            return both

        yield start_both


def finish(both):
    """Wait for the end of both; return exit statuses and outputs."""
    outputs = [process.communicate()[0] for process in both]
    return [process.returncode for process in both], outputs


@pytest.fixture(scope="module")
def alone(tmp_path_factory, env):
    """The folder of the same run, by one process."""
    folder = tmp_path_factory.mktemp("alone") / "run"
    ended = run("run.py", *QUICK, f"--workdir={folder}", env=env)
    assert ended.returncode == 0, ended.stderr
    return folder


def assert_close_to(folder, other):
    """The same run but for rounding: logits, and what is said of the epochs."""
    (one, logits, epochs), (two, expected, told) = outcome(folder), outcome(other)
    for name in ("last", "best"):
        a, b = (np.frombuffer(x[name], np.float32) for x in (logits, expected))
        np.testing.assert_allclose(a, b, atol=1e-3)
    for name in ("parameters", "best_epoch", "test_accuracy", "epochs"):
        assert one[name] == two[name]
    for a, b in zip(epochs, told, strict=True):
        assert a == pytest.approx(b, abs=1e-4)


@pytest.mark.slow
def test_two_processes_come_to_what_one_does_though_each_is_killed_once(
    start_two, alone, tmp_path
):
    for killed in (0, 1):
        both = start_two(*QUICK)
        wait_for(both[0], rf"^epoch +{killed + 1} ")
        both[killed].send_signal(signal.SIGKILL)
        statuses, outputs = finish(both)
        other = 1 - killed
        assert statuses[killed] == -signal.SIGKILL and statuses[other] != 0
        # If the first dies, JAX may be quicker than we are to say so.
        end = outputs[other]
        assert "Lost another process" in end or "another task died" in end
        assert killed == 0 or "Lost another process" in end
        assert not (tmp_path / "run" / "results.json").exists()

    statuses, outputs = finish(start_two(*QUICK))
    assert statuses == [0, 0], outputs
    assert "Going on after epoch" in outputs[0]
    assert_close_to(tmp_path / "run", alone)
    # The first alone writes and speaks.
    assert not (tmp_path / "other").exists()
    assert "epoch" not in outputs[1] and "accuracy" not in outputs[1]

    statuses, outputs = finish(start_two(*QUICK))
    assert statuses == [0, 0] and "is finished: nothing to do" in outputs[0]


SMALL_VGG = """
from configs import base, quickstart, vgg16
from mnist_jax import models
from mnist_jax.data import Split, digits
from tests.support.small_vgg import Narrow

models.MODELS["vgg16"] = Narrow
whole = digits.load()
quarter = tuple(Split(part.images[::4], part.labels[::4]) for part in whole)
digits.load = lambda: quarter


def get_config():
    config = quickstart.get_config()
    config.name = "small"
    config.model = vgg16.get_config("scratch").model
    config.phases = vgg16.get_config("head_only").phases
    config.augment.update(base.get_config().augment)
    config.phases[0].update(epochs=2, batch_size=100)
    return config
"""


@pytest.mark.slow
def test_two_processes_reuse_features_as_one_does(start_two, env, tmp_path):
    config = tmp_path / "small.py"
    config.write_text(SMALL_VGG)
    folder = tmp_path / "a"
    ended = run("run.py", f"--config={config}", f"--workdir={folder}", env=env)
    assert ended.returncode == 0, ended.stderr
    statuses, outputs = finish(start_two(f"--config={config}"))
    assert statuses == [0, 0], outputs
    assert "frozen layers before dense1 are computed once" in outputs[0]
    assert_close_to(tmp_path / "run", folder)


@pytest.mark.slow
def test_what_keeps_the_first_from_working_ends_the_other_too(
    start_two, alone, tmp_path
):
    (tmp_path / "run").symlink_to(alone)
    statuses, outputs = finish(start_two(*QUICK, "--config.seed=7"))
    assert statuses == [1, 1]
    for output in outputs:
        assert "holds a run with another config" in output
    assert "Error: Process 0 ended: " in outputs[1]


@pytest.mark.slow
def test_processes_with_different_configs_do_not_train(start_two, tmp_path):
    statuses, outputs = finish(start_two(*QUICK, only_second=["--config.seed=7"]))
    assert all(statuses)
    assert "Process 0 was given another config:\n  seed: 0 there, 7 now" in outputs[1]
    assert "Lost another process" in outputs[0]
    assert not (tmp_path / "run" / "results.json").exists()


# -- what is refused at the start

GOOD = {"coordinator": "node0:1234", "process_id": 1, "num_processes": 2, "timeout": 1}


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"coordinator": "node0"}, "--coordinator=node0: must be HOST:PORT"),
        ({"coordinator": ":1234"}, "--coordinator=:1234: must be HOST:PORT"),
        ({"coordinator": "node0:0"}, "must be HOST:PORT"),
        ({"coordinator": "node0:65536"}, "must be HOST:PORT"),
        ({"process_id": 2}, "--process_id=2: must be 0 to 1, as --num_processes=2"),
        ({"process_id": -1}, "--process_id=-1: must be 0 to 1"),
        ({"num_processes": 0}, "--num_processes=0: must be at least 1"),
        ({"coordinator": None}, "--coordinator is missing"),
        ({"process_id": None}, "--process_id is missing"),
        ({"num_processes": None}, "--num_processes is missing"),
    ],
)
def test_flags_that_do_not_fit_are_refused(fields, message):
    with pytest.raises(UserError, match=message):
        processes.start(**GOOD | fields)


def test_flags_for_several_processes_want_to_be_told_so(run_command):
    result = run_command(*QUICK, "--coordinator=node0:1234")
    assert result.returncode == 1
    assert "--coordinator=node0:1234 needs --distributed" in result.stderr


def test_without_flags_the_environment_must_tell(run_command):
    result = run_command(*QUICK, "--distributed")
    assert result.returncode == 1
    assert "the environment does not say which processes" in result.stderr


@pytest.mark.parametrize("process_id", [0, 1])
def test_processes_that_do_not_meet_say_so_and_end(run_command, process_id):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    result = run_command(
        *QUICK,
        "--distributed",
        f"--coordinator=127.0.0.1:{port}",
        "--num_processes=2",
        f"--process_id={process_id}",
        "--meeting_timeout=1",
    )
    assert result.returncode == 1
    assert "did not meet within 1 s" in result.stderr
    assert f"--process_id={process_id}" in result.stderr


def test_alone_a_process_shares_with_nobody():
    assert processes.count() == 1 and processes.is_first()
    value = {"a": [1, None, "x"]}
    assert processes.share(value) is value
    with processes.others_waiting() as go:
        go({})
