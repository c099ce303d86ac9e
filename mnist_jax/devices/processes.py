"""Several processes that train one network, each with its own devices.

All run the same program on the same data. Only the first (number 0) prints messages,
and reads and writes the run folder, whose state it shares with the others.
"""

import atexit
import contextlib
import json
import os
import re
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any, NoReturn

import jax
import numpy as np
from jax.experimental import multihost_utils

from mnist_jax.devices import failures
from mnist_jax.errors import UserError
from mnist_jax.tree import Tree

_LOST = (
    "Lost another process of this run: it ended, or the network failed. Its own output "
    "says why. Start all processes again with the same flags to resume the run after "
    "the last saved epoch."
)

# Whether the others are inside collectives with this process.
_together = False


@contextlib.contextmanager
def joined(**flags: Any) -> Iterator[None]:
    """Run a block together with other processes, which `start(**flags)` joins.

    Raises:
        UserError: as `start` does; or another process was lost.
    """
    start(**flags)
    try:
        yield
    except BaseException as error:
        if _together:
            # JAX would wait at exit for the others, which wait for this one, and abort.
            atexit.register(_exit, 130 if isinstance(error, KeyboardInterrupt) else 1)
        if count() > 1 and _is_of_xla(error) and not failures.explain(error):
            reason = next(iter(str(error).splitlines()), "")
            raise UserError(f"{_LOST} ({reason})") from error
        raise


def _is_of_xla(error: BaseException) -> bool:
    # A dispatch raises XLA's errors as ValueErrors.
    status = re.match(r"[A-Z_]+: ", str(error))  # UNKNOWN: Gloo all-reduce failed ...
    return isinstance(error, jax.errors.JaxRuntimeError) or (
        isinstance(error, ValueError) and status is not None
    )


def _exit(status: int) -> NoReturn:
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def start(
    *,
    coordinator: str | None,
    process_id: int | None,
    num_processes: int | None,
    timeout: int,
) -> None:
    """Join the other processes, before JAX initialises its devices.

    Args:
        coordinator: host:port of the first process, or None to take all three from the
            environment of SLURM, Open MPI, Kubernetes or a TPU pod.
        process_id: the number of this process, from 0.
        num_processes: the number of processes.
        timeout: seconds to wait for the others before this process exits.

    Raises:
        UserError: the flags or the environment do not say which processes there are, or
            the port cannot be used.
    """
    given = {
        "--coordinator": coordinator,
        "--process_id": process_id,
        "--num_processes": num_processes,
    }
    missing = [name for name, value in given.items() if value is None]
    if missing and len(missing) < len(given):
        raise UserError(
            f"{', '.join(missing)} is missing: {', '.join(given)} go together. Give "
            "none of them if SLURM, Open MPI, Kubernetes or a TPU pod sets them."
        )
    if not missing:
        _check(coordinator or "", process_id or 0, num_processes or 0)
    # JAX itself would end the process without a helpful message.
    alarm = threading.Timer(timeout, _give_up, [given, timeout])
    alarm.daemon = True
    alarm.start()
    try:
        jax.distributed.initialize(
            coordinator_address=coordinator,
            num_processes=num_processes,
            process_id=process_id,
            initialization_timeout=timeout + 60,
        )
    except (RuntimeError, ValueError) as error:
        reason = str(error).splitlines()[0].rstrip(".")
        if missing:
            raise UserError(
                "--distributed: the environment does not say which processes belong "
                f"together ({reason}). Give {', '.join(given)}."
            ) from error
        raise UserError(
            f"--distributed: process {process_id} cannot join {coordinator}: {reason}."
        ) from error
    finally:
        alarm.cancel()


def _give_up(given: dict[str, Any], timeout: int) -> NoReturn:
    flags = " ".join(f"{name}={v}" for name, v in given.items() if v is not None)
    print(
        f"Error: --distributed: the processes did not meet within {timeout} s"
        f"{f' ({flags})' if flags else ''}. All must be started with the same "
        "--num_processes, each with a --process_id of its own; process 0 must run on "
        "the --coordinator's host, with the port open to the others. --meeting_timeout "
        "waits longer.",
        file=sys.stderr,
    )
    _exit(1)


def check_alone(others: dict[str, Any]) -> None:
    """Raise a UserError if a flag is given that needs --distributed."""
    for name, value in others.items():
        if value is not None:
            raise UserError(f"--{name}={value} needs --distributed.")


def _check(coordinator: str, process_id: int, num_processes: int) -> None:
    host, _, port = coordinator.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 2**16:
        raise UserError(
            f"--coordinator={coordinator}: must be HOST:PORT, such as node0:1234."
        )
    if num_processes < 1:
        raise UserError(f"--num_processes={num_processes}: must be at least 1.")
    if not 0 <= process_id < num_processes:
        raise UserError(
            f"--process_id={process_id}: must be 0 to {num_processes - 1}, as "
            f"--num_processes={num_processes}."
        )


def count() -> int:
    """Return the number of processes, without initialising devices if it is 1."""
    return jax.process_count() if jax.distributed.is_initialized() else 1


def is_first() -> bool:
    """Return whether this is the process that writes files and messages."""
    return count() == 1 or jax.process_index() == 0


def share(value: Any) -> Any:
    """Return the first process's value, which must be JSON, in all processes."""
    if count() == 1:
        return value
    text = json.dumps(value).encode() if is_first() else b""
    size = int(share_arrays(np.int32(len(text))))
    letters = np.frombuffer(text.ljust(size), np.uint8)
    return json.loads(np.asarray(share_arrays(letters)).tobytes())


def share_arrays(tree: Tree) -> Tree:
    """Return the first process's arrays in all; shapes must be the same everywhere."""
    return tree if count() == 1 else multihost_utils.broadcast_one_to_all(tree)


@contextlib.contextmanager
def others_waiting() -> Iterator[Callable[[dict[str, Any]], None]]:
    """In the first process: hold the others in `wait_for_first` during a block.

    Yields:
        A function of the config, to be called when the others are to continue. If the
        block ends without a call, there is nothing for them to do; if it raises an
        error, so do they.
    """
    waiting = count() > 1

    def answer(value: dict[str, Any]) -> None:
        global _together
        nonlocal waiting
        if waiting:
            waiting = False
            share(value)
            _together = value.get("go_on", False)

    try:
        yield lambda config: answer({"go_on": True, "config": config})
    except (UserError, OSError) as error:
        answer({"error": str(error)})
        raise
    answer({"go_on": False})


def wait_for_first() -> dict[str, Any] | None:
    """In the other processes: wait for the first one's `others_waiting`.

    Returns:
        The first process's config; None if there is nothing to do.

    Raises:
        UserError: the first process failed.
    """
    global _together
    answer = share(None)
    if "error" in answer:
        raise UserError(f"Process 0 ended: {answer['error']}")
    _together = answer["go_on"]
    return answer.get("config")
