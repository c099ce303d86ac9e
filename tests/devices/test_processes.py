"""Several processes as a user starts them, on this machine."""

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
    "--config.model.name=tests.support.own_nets:MLP",
    "--config.phases[0].epochs=3",
    "--config.phases[0].batch_size=100",
    "--config.augment.rotation=10",
)


@pytest.fixture(scope="module")
def env(command_env):
    fast = LITTLE_OPTIMIZED | WITHOUT_PICTURES
    return command_env | fast | {"JAX_PLATFORMS": "cpu"}


def free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


@pytest.fixture
def start_two(env, tmp_path):
    """Start `python run.py` twice, as the processes of a run in `tmp_path / "run"`."""
    with contextlib.ExitStack() as stack:

        def start_both(*arguments, only_second=()):
            shared = (
                *arguments,
                f"--workdir={tmp_path / 'run'}",
                "--distributed",
                f"--coordinator=127.0.0.1:{free_port()}",
                "--num_processes=2",
            )
            own = [["--process_id=0"], ["--process_id=1", *only_second]]
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
    """The same run up to rounding: logits, and the metrics of the epochs."""
    (one, logits, epochs), (two, expected, metrics) = outcome(folder), outcome(other)
    for name in ("last", "best"):
        a, b = (np.frombuffer(x[name], np.float32) for x in (logits, expected))
        np.testing.assert_allclose(a, b, atol=1e-3)
    for name in ("parameters", "best_epoch", "test_accuracy", "epochs"):
        assert one[name] == two[name]
    for a, b in zip(epochs, metrics, strict=True):
        assert a == pytest.approx(b, abs=1e-4)


@pytest.mark.slow
def test_two_processes_train_as_one_does_though_one_was_killed(
    start_two, alone, tmp_path
):
    both = start_two(*QUICK)
    wait_for(both[0], r"^epoch +1 ")
    both[1].send_signal(signal.SIGKILL)
    statuses, outputs = finish(both)
    assert statuses == [1, -signal.SIGKILL]
    assert "Error: Another process of this run ended" in outputs[0]
    assert not (tmp_path / "run" / "results.json").exists()

    statuses, outputs = finish(start_two(*QUICK))
    assert statuses == [0, 0], outputs
    assert_close_to(tmp_path / "run", alone)
    # The first alone prints.
    assert "epoch" not in outputs[1] and "accuracy" not in outputs[1]

    # All read the folder.
    statuses, outputs = finish(start_two(*QUICK, "--config.seed=7"))
    assert statuses == [1, 1]
    assert all("holds a run with another config" in output for output in outputs)


@pytest.mark.slow
def test_processes_with_different_configs_do_not_train(start_two, tmp_path):
    statuses, outputs = finish(start_two(*QUICK, only_second=["--config.seed=7"]))
    assert statuses == [1, 1]
    assert all("Error: --distributed: the processes have diff" in o for o in outputs)
    assert not (tmp_path / "run").exists()


# -- what is refused at the start


@pytest.mark.parametrize(
    "arguments",
    [(None, None, None), ("node0:1234", 2, None), ("node0", 2, 0), ("n:1", 2, 2)],
)
def test_processes_that_are_not_described_are_refused(arguments):
    names = ("coordinator", "num_processes", "process_id")
    with (
        pytest.raises(UserError, match="--distributed: cannot join.*--coordinator="),
        processes.joined(**dict(zip(names, arguments, strict=True))),
    ):
        pass


def test_flags_for_several_processes_need_distributed(run_command):
    result = run_command(*QUICK, "--coordinator=node0:1234")
    assert result.returncode == 1
    assert "--coordinator needs --distributed" in result.stderr
